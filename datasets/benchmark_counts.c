/* benchmark_counts.c - picture counts of published data sets. Entry: adze_benchmark_find().
 * Sources: Table 1 and 3 of the MIRAD paper, 1cls.csv of VisA, the data sets' own papers and READMEs. MIRAD has one folder for
 * all its defect types, so only pictures are compared there. */
#include "datasets/benchmark_counts.h"

#include <string.h>

static const adze_benchmark_class mvtec_ad[] = {
    { "bottle", 209, 20, 63, 3 },   { "cable", 224, 58, 92, 8 },    { "capsule", 219, 23, 109, 5 },  { "carpet", 280, 28, 89, 5 },
    { "grid", 264, 21, 57, 5 },     { "hazelnut", 391, 40, 70, 4 }, { "leather", 245, 32, 92, 5 },   { "metal_nut", 220, 22, 93, 4 },
    { "pill", 267, 26, 141, 7 },    { "screw", 320, 41, 119, 5 },   { "tile", 230, 33, 84, 5 },      { "toothbrush", 60, 12, 30, 1 },
    { "transistor", 213, 60, 40, 4 }, { "wood", 247, 19, 60, 5 },   { "zipper", 240, 32, 119, 7 },
};
static const adze_benchmark_class visa[] = {
    { "candle", 900, 100, 100, -1 },    { "capsules", 542, 60, 100, -1 },   { "cashew", 450, 50, 100, -1 },
    { "chewinggum", 453, 50, 100, -1 }, { "fryum", 450, 50, 100, -1 },      { "macaroni1", 900, 100, 100, -1 },
    { "macaroni2", 900, 100, 100, -1 }, { "pcb1", 904, 100, 100, -1 },      { "pcb2", 901, 100, 100, -1 },
    { "pcb3", 905, 101, 100, -1 },      { "pcb4", 904, 101, 100, -1 },      { "pipe_fryum", 450, 50, 100, -1 },
};
static const adze_benchmark_class mirad[] = {
    { "building_block", 262, 57, 158, -1 },   { "chain_buckle", 197, 81, 141, -1 },        { "geometric_block", 238, 55, 159, -1 },
    { "geometric_button", 290, 94, 188, -1 }, { "geometric_snowflake", 215, 62, 163, -1 }, { "magnetic_block", 268, 57, 204, -1 },
    { "magnetic_bookmark", 216, 48, 133, -1 }, { "number_block", 254, 69, 151, -1 },       { "number_snowflake", 230, 60, 236, -1 },
    { "rabbit_pendant", 228, 71, 204, -1 },
};
static const adze_benchmark_class mpdd[] = {
    { "bracket_black", 289, 32, 47, -1 }, { "bracket_brown", 185, 26, 51, -1 }, { "bracket_white", 110, 30, 30, -1 },
    { "connector", 128, 30, 14, -1 },     { "metal_plate", 54, 26, 71, -1 },    { "tubes", 122, 32, 69, -1 },
};
static const adze_benchmark_class btad[] = { { "01", -1, -1, -1, 1 }, { "02", -1, -1, -1, 1 }, { "03", -1, -1, -1, 1 } };
static const adze_benchmark_class rad[] = {
    { "bolt", 213, 73, 327, 1 }, { "ribbon", 213, 73, 293, 1 }, { "sponge", 213, 73, 281, 1 }, { "tape", 213, 73, 323, 1 },
};

#define CLASSES(table) table, (int64_t)(sizeof(table) / sizeof *(table))
static const adze_benchmark benchmarks[] = {
    { "MVTec AD", CLASSES(mvtec_ad), 3629, 1725 }, { "VisA", CLASSES(visa), 8659, 2162 }, { "MIRAD", CLASSES(mirad), 2398, 2391 },
    { "MPDD", CLASSES(mpdd), 888, 458 },           { "BTAD", CLASSES(btad), 1799, 741 },  { "RAD", CLASSES(rad), 852, 1516 },
};

const adze_benchmark_class *adze_benchmark_class_of(const adze_benchmark *b, const char *class_name)
{
    for (int64_t i = 0; i < b->n_classes; i++)
        if (strcmp(b->classes[i].class_name, class_name) == 0) return &b->classes[i];
    return NULL;
}

const adze_benchmark *adze_benchmark_find(const char *const *classes, int64_t n, bool *complete)
{
    for (size_t k = 0; k < sizeof benchmarks / sizeof *benchmarks; k++) {
        int64_t known = 0;
        while (known < n && adze_benchmark_class_of(&benchmarks[k], classes[known])) known++;
        if (n == 0 || known < n) continue;
        *complete = 2 * n >= benchmarks[k].n_classes;
        return &benchmarks[k];
    }
    return NULL;
}
