# tests of checkpoints/
adze_test(checkpoints/test_model_file.c)
