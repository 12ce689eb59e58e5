/* op_flow_logp.h - the attributes of flow_logp, for the backends. */
#ifndef ADZE_CORE_OP_FLOW_LOGP_H
#define ADZE_CORE_OP_FLOW_LOGP_H

#include "core/op.h"

/* log of the standard normal density at 0, as the reference rounds it. */
#define FLOW_LOG_NORMAL (-0.9189385332046727)

typedef struct {
    int64_t C;
} flow_logp_attrs;

#endif
