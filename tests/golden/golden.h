/* golden.h - what the case runners of build/bin/golden share: building a case's tensors from their names, and judging
 * results. One file golden_AREA.c per area; the table in golden.c maps the kind's prefix to it. */
#ifndef ADZE_TESTS_GOLDEN_H
#define ADZE_TESTS_GOLDEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/context.h"
#include "tests/golden/case_tensor.h"

typedef struct {
    const char *file;      /* the JSON file */
    const char *folder;    /* folder of the JSON file */
    const char *area_root; /* parent of that folder's parent: where `data/...` and `golden/...` paths start */
    const char *kind;      /* setup.kind */
    const char *device;    /* --device, default "cpu" */
    const char *precision; /* --precision, default "f32" */
    bool quiet;            /* --quiet: only failures and the summary */
    json_t *root, *setup;
    int n_ok, n_failed;
} golden;

/* A runner checks every value of the case; it returns false if the kind is unknown to it (exit 2). */
typedef bool (*golden_runner)(golden *g);
bool golden_ops(golden *g);
bool golden_train(golden *g);
bool golden_images(golden *g);
bool golden_weights(golden *g);
bool golden_backbones(golden *g);
bool golden_real_pictures(golden *g);
bool golden_metrics(golden *g);
bool golden_patchcore(golden *g);
bool golden_rd(golden *g);
bool golden_cflow(golden *g);
bool golden_simplenet(golden *g);
bool golden_destseg(golden *g);
bool golden_patchcore_model(golden *g); /* kinds embed and pipeline */

/* The device and the precision of the command line; ADZE_EINVAL for names that are none. */
adze_status golden_context(const golden *g, adze_ctx **out);

/* From {"shape","rule","name",("lo","hi")}: rules unit, uniform [LO HI], weight, constant V, list v0 v1 ...; NULL with a
 * line on stderr if the rule is unknown. */
float *golden_tensor(const json_t *spec, int64_t shape[8], int *rank, int64_t *n);

const char *golden_string(const json_t *object, const char *key, const char *fallback);
int64_t golden_int(const json_t *object, const char *key, int64_t fallback);
double golden_real(const json_t *object, const char *key, double fallback);

/* What a result may be off: 4 scale f32_err + 1e-6 absmax; with --precision bf16 the wider one of README.md. */
double golden_bound(const golden *g, double f32_err, double absmax, double scale);
bool golden_is_bf16(const golden *g);

/* Judges the sampled elements of root.values[name] (or `value` itself): |got - is| <= golden_bound() (1e-7 if absmax is 0),
 * plus the number of elements. Prints one line, counts it. `scale` multiplies f32_err's 4 (1 = the rule). */
bool golden_check(golden *g, const char *name, const float *got, int64_t n);
bool golden_check_value(golden *g, const char *name, const json_t *value, const float *got, int64_t n, double scale);
/* Like golden_check_value with an absolute bound of the runner's own; the second with doubles. */
bool golden_check_within(golden *g, const char *name, const json_t *value, const float *got, int64_t n, double bound);
bool golden_check_double(golden *g, const char *name, const json_t *value, const double *got, int64_t n, double bound);
/* Root mean square of (got - is) over the sampled elements, their number in *n; and that of all elements of the reference's. */
double golden_sampled_rms(const json_t *value, const float *got, size_t *n);
double golden_size(const json_t *value);
/* A yes/no check with a printf'd explanation. */
bool golden_expect(golden *g, const char *name, bool ok, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* NCHW <-> NHWC copies for the runners. */
void golden_nchw_to_nhwc(const float *x, int64_t N, int64_t C, int64_t H, int64_t W, float *y);
void golden_nhwc_to_nchw(const float *x, int64_t N, int64_t C, int64_t H, int64_t W, float *y);

#endif
