/* tap_choice.c - the options of the methods that name taps of a backbone. Entry: tap_choice_parse(). */
#include "models/tap_choice.h"

#include <stdio.h>
#include <string.h>

/* Names are never a digit alone. */
static adze_status find_tap(const adze_backbone_info *b, const char *text, int *out)
{
    if (text[0] < '0' || text[0] > '9' || text[1]) return adze_backbone_tap(b, text, out);
    *out = text[0] - '0';
    if (*out < b->n_taps) return ADZE_OK;
    return adze_fail(ADZE_EINVAL, "tap %d of '%s', which has taps 0 to %d", *out, b->name, b->n_taps - 1);
}

adze_status tap_choice_parse(tap_choice *out, const adze_backbone_info *b, const char *option, const char *layers, int first_stride, int last_stride,
                             int most)
{
    adze_status st = ADZE_OK;
    *out = (tap_choice){ .n = 0 };
    if (!layers || !*layers)
        for (int i = 0; i < b->n_taps; i++)
            if (b->stride[i] >= first_stride && b->stride[i] <= last_stride) out->index[out->n++] = i;
    for (const char *p = layers ? layers : ""; *p;) {
        size_t length = strcspn(p, ",");
        char name[64];
        REQUIRE(out->n < most && out->n < ADZE_BACKBONE_TAPS, ADZE_EINVAL, "%s '%s': at most %d", option, layers, most);
        REQUIRE(length > 0 && length < sizeof name, ADZE_EINVAL, "%s '%s': names or numbers separated by commas", option, layers);
        snprintf(name, sizeof name, "%.*s", (int)length, p);
        TRY(find_tap(b, name, &out->index[out->n++]));
        p += length + (p[length] == ',');
    }
    for (int i = 0; i < out->n; i++) out->deepest = out->index[i] > out->deepest ? out->index[i] : out->deepest;
done:
    return st;
}
