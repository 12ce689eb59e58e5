/* weights_path.h - where a backbone's weights are looked for. */
#ifndef ADZE_TRAIN_WEIGHTS_PATH_H
#define ADZE_TRAIN_WEIGHTS_PATH_H

#include "core/status.h"
#include "models/backbone.h"

/* `given` if not NULL; else BACKBONE.h5 in the cache: $XDG_CACHE_HOME/adze, ~/.cache/adze, ./.cache. *path is owned by the
 * caller. ADZE_EINPUT with the command that would import them if there are none. */
adze_status weights_path(const adze_backbone_info *backbone, const char *given, char **path);

#endif
