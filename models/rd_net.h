/* rd_net.h - the trained networks of reverse distillation: fusion and bottleneck (MFF_OCE), and the decoder. */
#ifndef ADZE_MODELS_RD_NET_H
#define ADZE_MODELS_RD_NET_H

#include <stdbool.h>

#include "core/graph.h"
#include "core/params.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    bool train;         /* batch norm by the batch's statistics, parameters trainable; else frozen, by the running ones */
    const char *prefix; /* before "mff_oce." and "net_s."; NULL: none */
} rd_net_opts;

/* Values along the way, for tests: l1, l2 (fused levels), code, deconv and upsample of the decoder's first block. */
typedef struct {
    adze_value l1, l2, code, deconv, upsample;
} rd_net_inside;

/* t[0..2]: the teacher's maps of strides 4, 8, 16; sets s[0..2] of the same shapes. ADZE_EINVAL for a backbone without a
 * mirrored decoder. `inside` may be NULL. */
adze_status rd_net_build(adze_graph *g, const char *backbone, const adze_value t[3], const rd_net_opts *opts, adze_value s[3],
                         rd_net_inside *inside);
/* Initial values: convolutions normal with deviation sqrt(2/fan_out), transposed ones uniform within 1/sqrt(4 out), batch
 * norm 1, 0, running statistics 0, 1. Philox streams by parameter number. Only names with `prefix`. */
adze_status rd_net_init(adze_params *params, const char *prefix, uint64_t seed);

#ifdef __cplusplus
}
#endif
#endif
