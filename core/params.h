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
/* Sets the gradient of a trainable parameter: for gradients that no plan computes. */
adze_status adze_params_write_grad(adze_params *p, int i, const float *from_host);

/* For optimisers: the block and its gradients (NULL before there are any), laid out alike, in device memory. Parameter i
 * starts at float adze_params_offset(); between two parameters lie fewer than 16 floats, zero in both. */
float *adze_params_block(adze_params *p);
float *adze_params_grad_block(adze_params *p);
int64_t adze_params_offset(const adze_params *p, int i);
/* Whoever changes the block says so: packed copies of the parameter are made anew at the next run. */
void adze_params_changed(adze_params *p, int i);
adze_ctx *adze_params_ctx(const adze_params *p);

#ifdef __cplusplus
}
#endif
#endif
