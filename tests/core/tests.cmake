adze_test(core/test_foundation.c)
adze_test(core/test_philox.c)
adze_test(core/test_options.c)
adze_test(core/test_progress.c)
