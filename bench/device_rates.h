/* device_rates.h - what floors are stated against: how fast a device copies and multiplies. */
#ifndef ADZE_BENCH_DEVICE_RATES_H
#define ADZE_BENCH_DEVICE_RATES_H

#include "core/context.h"

/* Per second: bytes copied (read and written both count), FLOPs of matrix products in the context's precision. */
typedef struct {
    double bytes, flops;
} device_rates;

/* Fastest of several. On the cpu by loops that do nothing else: float32, or bfloat16 where the processor has it. Elsewhere by the
 * backend's own kernels: a ReLU of 64 MB, a product of (4096,2048) and (2048,4096). Zeros on the emulator, whose times say nothing. */
adze_status device_rates_measure(adze_ctx *ctx, device_rates *out);

#endif
