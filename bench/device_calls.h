/* device_calls.h - what bench-kernels measures beside operations of a graph: nearest neighbours, greedy selection, maps, pixels,
 * optimiser steps, each as the programs call it. */
#ifndef ADZE_BENCH_DEVICE_CALLS_H
#define ADZE_BENCH_DEVICE_CALLS_H

#include "bench/kernel_cases.h"
#include "core/context.h"

typedef struct device_call device_call; /* opaque: owns its data */

typedef struct {
    const char *name;
    double bytes, flops; /* that it has to move and compute at least on the device */
    bool half;           /* the products may be those of 16-bit numbers */
    bool transfers;      /* its times include copies to and from the host */
} device_call_facts;

int device_call_count(void);
device_call_facts device_call_facts_at(int i, kernel_size s);

/* Call i ready to run; `ctx` is borrowed. */
adze_status device_call_create(device_call **out, int i, adze_ctx *ctx, kernel_size s);
void device_call_destroy(device_call *c);
adze_status device_call_run(device_call *c, double *seconds);
/* After as many runs of both: ADZE_ENUMERIC unless both have the same results. */
adze_status device_call_compare(device_call *got, device_call *want);

#endif
