adze_test(eval/test_label.c)
adze_test(eval/test_metrics.c)
adze_test(eval/test_report.c)
