/* tap_choice.c - the option `layers` of the methods. Entry: tap_choice_parse(). */
#include "models/tap_choice.h"

#include <stdio.h>
#include <string.h>

adze_status tap_choice_parse(tap_choice *out, const adze_backbone_info *b, const char *layers, int first_stride, int last_stride, int most)
{
    adze_status st = ADZE_OK;
    *out = (tap_choice){ .n = 0 };
    if (!layers || !*layers)
        for (int i = 0; i < b->n_taps; i++)
            if (b->stride[i] >= first_stride && b->stride[i] <= last_stride) out->index[out->n++] = i;
    for (const char *p = layers ? layers : ""; *p;) {
        size_t length = strcspn(p, ",");
        char name[64];
        REQUIRE(out->n < most && out->n < ADZE_BACKBONE_TAPS, ADZE_EINVAL, "layers '%s': at most %d", layers, most);
        REQUIRE(length > 0 && length < sizeof name, ADZE_EINVAL, "layers '%s': names separated by commas", layers);
        snprintf(name, sizeof name, "%.*s", (int)length, p);
        TRY(adze_backbone_tap(b, name, &out->index[out->n++]));
        p += length + (p[length] == ',');
    }
    for (int i = 0; i < out->n; i++) out->deepest = out->index[i] > out->deepest ? out->index[i] : out->deepest;
done:
    return st;
}
