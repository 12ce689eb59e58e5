/* method.c - the registry of methods: one line each. Entry: adze_method_find(). */
#include "models/method.h"

#include <string.h>

#include "models/cflow.h"
#include "models/destseg.h"
#include "models/patchcore.h"
#include "models/rd.h"
#include "models/simplenet.h"

static const adze_method *const methods[] = {
    &adze_patchcore,
    &adze_cflow,
    &adze_destseg,
    &adze_simplenet,
    &adze_rd,
};

const adze_method *adze_method_at(int i)
{
    return i >= 0 && i < (int)(sizeof methods / sizeof *methods) ? methods[i] : NULL;
}

adze_status adze_method_find(const char *name, const adze_method **out)
{
    const adze_method *m, *nearest = methods[0];
    for (int i = 0; (m = adze_method_at(i)); i++) {
        if (strcmp(m->name, name) == 0) {
            *out = m;
            return ADZE_OK;
        }
        if (adze_text_distance(m->name, name) < adze_text_distance(nearest->name, name)) nearest = m;
    }
    return adze_fail(ADZE_EINVAL, "method '%s' is unknown; did you mean '%s'? (--method help lists them)", name,
                     nearest->name);
}
