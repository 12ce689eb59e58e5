/* context.h - where and how things are computed: device, threads, precision. */
#ifndef ADZE_CORE_CONTEXT_H
#define ADZE_CORE_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adze_ctx adze_ctx; /* opaque: owns the device's handles */

typedef enum { ADZE_PRECISION_F32, ADZE_PRECISION_TF32, ADZE_PRECISION_BF16 } adze_precision;

typedef struct {
    const char *device;       /* "auto" (cuda if it is there, else cpu), "cpu", "cuda", "cuda:N", "cusim" (the emulated GPU) */
    int threads;              /* compute threads; 0: as many as the process may use */
    adze_precision precision; /* of convolutions and matrix products */
    bool deterministic;
    bool reference_only;      /* plain-C kernels only: for tests */
} adze_ctx_opts;
#define ADZE_CTX_OPTS ((adze_ctx_opts){ .device = "auto", .deterministic = true })

/* ADZE_EINVAL: unknown device or precision name; ADZE_EBACKEND: no such device here. */
adze_status adze_ctx_create(adze_ctx **out, const adze_ctx_opts *opts);
void adze_ctx_destroy(adze_ctx *ctx);
/* "cpu" ...; and one line about the device for people and run records. Borrowed. */
const char *adze_ctx_device(const adze_ctx *ctx);
const char *adze_ctx_description(const adze_ctx *ctx);
/* A named range for the device's profiler around what follows, where there is one: they nest; leave ends the last one. */
void adze_ctx_enter(adze_ctx *ctx, const char *name);
void adze_ctx_leave(adze_ctx *ctx);
int adze_ctx_threads(const adze_ctx *ctx);
adze_precision adze_ctx_precision(const adze_ctx *ctx);
/* What decides about the bits of a result besides the graph: device, instructions, libraries, precision; not the threads. */
enum { ADZE_NUMERICS_TEXT = 192 };
const char *adze_ctx_numerics(const adze_ctx *ctx, char text[ADZE_NUMERICS_TEXT]);

/* "f32", "tf32", "bf16"; ADZE_EINVAL for other texts. */
adze_status adze_precision_parse(const char *text, adze_precision *out);
const char *adze_precision_name(adze_precision p);

#ifdef __cplusplus
}
#endif
#endif
