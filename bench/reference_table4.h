/* reference_table4.h - what the MIRAD paper prints in Table 4 for the one-class methods. */
#ifndef ADZE_BENCH_REFERENCE_TABLE4_H
#define ADZE_BENCH_REFERENCE_TABLE4_H

#include <stdbool.h>

/* Percent as printed. False if the paper has no such cell. Letters' case does not matter in class names, and blanks and hyphens
 * count as underscores. */
bool reference_table4_find(const char *method, const char *class_name, double *image_auroc, double *aupro);

#endif
