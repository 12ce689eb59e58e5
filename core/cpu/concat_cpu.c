/* concat_cpu.c - concatenation and its gradient: copies of contiguous pieces, over threads. Floor: read once, written once. */
#include <string.h>

#include "core/axis.h"
#include "core/cpu/kernels_cpu.h"
#include "core/op_concat.h"

static bool always(const adze_call *c)
{
    (void)c;
    return true;
}

/* Length of each input's piece and where it begins in a row of y; returns the row's length. */
static int64_t pieces(const adze_call *c, int64_t n[ADZE_MAX_IN], int64_t at[ADZE_MAX_IN])
{
    int64_t width = 0;
    for (int i = 0; i < c->n_in; i++) {
        adze_axis x = adze_axis_of(&c->in[i].shape, ((const concat_attrs *)c->attrs)->dim);
        n[i] = x.n * x.inner, at[i] = width;
        width += n[i];
    }
    return width;
}

static adze_status run(const adze_call *c)
{
    int64_t n[ADZE_MAX_IN], at[ADZE_MAX_IN], width = pieces(c, n, at), rows = adze_shape_count(&c->out[0].shape) / width;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int i = 0; i < c->n_in; i++)
            memcpy(c->out[0].data + r * width + at[i], c->in[i].data + r * n[i], (size_t)n[i] * sizeof(float));
    return ADZE_OK;
}

static adze_status run_backward(const adze_call *c)
{
    int64_t n[ADZE_MAX_IN], at[ADZE_MAX_IN], width = pieces(c, n, at), rows = adze_shape_count(&c->out[0].shape) / width;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int i = 0; i < c->n_in; i++) {
            if (!c->in[i].wanted) continue;
            const float *from = c->out[0].grad + r * width + at[i];
            float *to = c->in[i].grad + r * n[i];
            if (!c->in[i].accumulate) memcpy(to, from, (size_t)n[i] * sizeof(float));
            else
                for (int64_t k = 0; k < n[i]; k++) to[k] += from[k];
        }
    return ADZE_OK;
}

const adze_kernel adze_cpu_concat = { .name = "cpu", .accepts = always, .run = run };
const adze_kernel adze_cpu_concat_backward = { .name = "cpu", .accepts = always, .run = run_backward };
