adze_test(core/test_foundation.c)
