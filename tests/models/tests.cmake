# tests of models/
adze_test(models/test_backbone.c)
