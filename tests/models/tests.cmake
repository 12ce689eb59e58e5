# tests of models/
adze_test(models/test_backbone.c)
adze_test(models/test_defect.c)
adze_test(models/test_destseg_net.c)
adze_test(models/test_map_score.c)
