adze_test(datasets/test_dataset.c)
adze_test(datasets/test_loader.c)
