/* model_params.c - moving a model's parameters between its block and a source or sink. Entry: model_params_load(). */
#include "models/model_params.h"

#include <string.h>

#include "core/memory.h"

static bool begins(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

adze_status model_params_load(adze_params *params, const char *prefix, const char *strip, const adze_tensor_source *source)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < adze_params_count(params); i++) {
        const char *name = adze_params_name(params, i);
        if (!begins(name, prefix)) continue;
        const char *stored = begins(name, strip) ? name + strlen(strip) : name;
        adze_shape want = adze_params_shape(params, i), have;
        const float *data;
        char ws[ADZE_SHAPE_TEXT], hs[ADZE_SHAPE_TEXT];
        TRY(source->find(source->user, stored, &have, &data));
        REQUIRE(adze_shape_equal(&want, &have), ADZE_EINPUT, "tensor '%s' has shape %s, want %s", stored,
                adze_shape_text(&have, hs), adze_shape_text(&want, ws));
        TRY(adze_params_write(params, i, data));
    }
done:
    return st;
}

adze_status model_params_save(const adze_params *params, const char *prefix, const adze_tensor_sink *sink)
{
    adze_status st = ADZE_OK;
    float *copy = NULL;
    for (int i = 0; i < adze_params_count(params); i++) {
        const char *name = adze_params_name(params, i);
        if (!begins(name, prefix)) continue;
        adze_shape s = adze_params_shape(params, i);
        adze_free(copy);
        REQUIRE(copy = adze_malloc((size_t)adze_shape_count(&s) * sizeof *copy), ADZE_ENOMEM, "a copy of %s", name);
        TRY(adze_params_read(params, i, copy));
        TRY(sink->put(sink->user, name, ADZE_TENSOR_F32, s, copy));
    }
done:
    adze_free(copy);
    return st;
}
