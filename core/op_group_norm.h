/* op_group_norm.h - the attributes and operands of group_norm, for the backends. */
#ifndef ADZE_CORE_OP_GROUP_NORM_H
#define ADZE_CORE_OP_GROUP_NORM_H

#include "core/op.h"

enum { GROUP_NORM_X, GROUP_NORM_GAMMA, GROUP_NORM_BETA };

typedef struct {
    int64_t groups;
    float eps;
} group_norm_attrs;

/* N images of P positions and C channels, in G groups of Cg. */
typedef struct {
    int64_t N, P, C, G, Cg;
} group_norm_sizes;

#ifdef __cplusplus
extern "C" {
#endif

group_norm_sizes adze_group_norm_sizes(const adze_call *c);

#ifdef __cplusplus
}
#endif
#endif
