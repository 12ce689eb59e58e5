/* weights_path.c - where a backbone's weights are looked for. Entry: weights_path(). */
#include "train/weights_path.h"

#include <stdlib.h>

#include "core/file.h"
#include "core/memory.h"

adze_status weights_path(const adze_backbone_info *backbone, const char *given, char **path)
{
    adze_status st = ADZE_OK;
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *candidate[3] = { NULL, NULL, NULL };
    *path = NULL;
    if (given) {
        REQUIRE(adze_file_exists(given), ADZE_EINPUT,
                "%s: no such weights file; make it with: adze-weights import %s --as %s -o %s", given,
                backbone->reference_weights, backbone->name, given);
        REQUIRE(*path = adze_strdup(given), ADZE_ENOMEM, "no memory for a path");
        goto done;
    }
    candidate[0] = cache && *cache ? adze_strprintf("%s/adze/%s.h5", cache, backbone->name) : adze_strdup("");
    candidate[1] = home && *home ? adze_strprintf("%s/.cache/adze/%s.h5", home, backbone->name) : adze_strdup("");
    candidate[2] = adze_strprintf(".cache/%s.h5", backbone->name);
    for (int i = 0; i < 3; i++) {
        REQUIRE(candidate[i], ADZE_ENOMEM, "no memory for a path");
        if (*path || !*candidate[i] || !adze_file_exists(candidate[i])) continue;
        REQUIRE(*path = adze_strdup(candidate[i]), ADZE_ENOMEM, "no memory for a path");
    }
    REQUIRE(*path, ADZE_EINPUT,
            "no weights for %s; import them once: adze-weights import %s --as %s -o %s (or give --weights FILE.h5)",
            backbone->name, backbone->reference_weights, backbone->name, candidate[2]);
done:
    for (int i = 0; i < 3; i++) adze_free(candidate[i]);
    return st;
}
