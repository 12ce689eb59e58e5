/* textures.h - the pictures that methods with synthetic defects paste: a folder's, or the good pictures of the data set. */
#ifndef ADZE_TRAIN_TEXTURES_H
#define ADZE_TRAIN_TEXTURES_H

#include "datasets/dataset.h"
#include "datasets/loader.h"
#include "models/method.h"

typedef struct textures textures; /* opaque */

/* The pictures below `folder`, or, if it is NULL, the good training pictures of `data`, of which a picture gets those of other
 * classes than its own. data and items (n), the pictures under training, are borrowed. ADZE_EINPUT: nothing to read in `folder`. */
adze_status textures_create(textures **out, const char *folder, const adze_dataset *data, const adze_data_item *items, int64_t n);
void textures_destroy(textures *t);
/* How they are read: as the pictures under training are; before the first one. */
void textures_read_as(textures *t, const adze_loader_opts *opts);
/* What a model's setup takes; borrows t. */
adze_texture_source textures_source(textures *t);

#endif
