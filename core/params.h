/* params.h - the parameters of a model: one block of memory, addressed by name, shared by all plans over it. */
#ifndef ADZE_CORE_PARAMS_H
#define ADZE_CORE_PARAMS_H

#include "core/context.h"
#include "core/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adze_params adze_params; /* opaque: owns the block */

/* Room for every parameter of `g`, trainable ones first, all zero. `ctx` is borrowed. */
adze_status adze_params_create(adze_params **out, adze_ctx *ctx, const adze_graph *g);
void adze_params_destroy(adze_params *p);

int adze_params_count(const adze_params *p);
const char *adze_params_name(const adze_params *p, int i);
adze_shape adze_params_shape(const adze_params *p, int i);
/* Index of a name, -1 if it is unknown. */
int adze_params_find(const adze_params *p, const char *name);
/* Copies a whole parameter in or out, row-major in its own shape. */
adze_status adze_params_write(adze_params *p, int i, const float *from_host);
adze_status adze_params_read(const adze_params *p, int i, float *to_host);
size_t adze_params_bytes(const adze_params *p);
bool adze_params_trainable(const adze_params *p, int i);
/* The gradient of a trainable parameter after the last run of a plan with a loss; ADZE_EINVAL if it has none. */
adze_status adze_params_read_grad(const adze_params *p, int i, float *to_host);

#ifdef __cplusplus
}
#endif
#endif
