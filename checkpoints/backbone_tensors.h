/* backbone_tensors.h - names and shapes of a backbone's parameters, as torchvision and timm have them. */
#ifndef ADZE_CHECKPOINTS_BACKBONE_TENSORS_H
#define ADZE_CHECKPOINTS_BACKBONE_TENSORS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    ADZE_NEED_ALWAYS,
    ADZE_NEED_TAIL,    /* behind the taps (layer4, fc, conv_head ...): a file has all of one part or none of it */
    ADZE_NEED_COUNTER  /* num_batches_tracked: may be missing one by one */
} adze_tensor_need;

typedef struct {
    char name[88];
    char source_name[88]; /* another name that files use (efficientnet_pytorch's), "" if there is none */
    int rank;
    int64_t dim[4];
    adze_tensor_need need;
    int part; /* which tail part, 0 if none */
} adze_backbone_tensor;

typedef struct {
    adze_backbone_tensor *tensor; /* owned */
    int64_t count;
} adze_backbone_list;

/* In the reference's order. `folded`: convolutions with bias instead of batch norm. Backbones: resnet18, resnet34, resnet50,
 * wide_resnet50_2, efficientnet_lite0, tf_efficientnet_b4. ADZE_EINVAL for another name, with the nearest; ADZE_ENOMEM. */
adze_status adze_backbone_tensors(const char *backbone, bool folded, adze_backbone_list *list);
void adze_backbone_list_destroy(adze_backbone_list *list);
/* Known names in order; NULL past the end. */
const char *adze_backbone_tensors_name(int i);

#ifdef __cplusplus
}
#endif
#endif
