/* config_compare.c - differences of configurations, by name. Entry: adze_config_compare(). */
#include "train/config_compare.h"

#include <jansson.h>
#include <stdlib.h>

static adze_status parse(json_t **out, const char *text, adze_status code, const char *whose)
{
    json_error_t why;
    *out = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    if (json_is_object(*out)) return ADZE_OK;
    json_decref(*out);
    *out = NULL;
    return adze_fail(code, "%s: the configuration is no JSON object", whose);
}

adze_status adze_config_check(const char *text, adze_status code, const char *whose)
{
    json_t *root;
    adze_status st = parse(&root, text, code, whose);
    json_decref(root);
    return st;
}

static void describe(adze_text *t, const json_t *value)
{
    char *s = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    adze_text_append(t, s ? s : "nothing");
    free(s);
}

static void differences(const json_t *stored, const json_t *now, adze_text *t)
{
    const char *separator = "";
    for (int pass = 0; pass < 2; pass++) {
        const char *key;
        json_t *value;
        json_object_foreach((json_t *)(pass ? now : stored), key, value) {
            const json_t *a = json_object_get(stored, key), *b = json_object_get(now, key);
            if ((pass && a) || (b && json_equal((json_t *)a, (json_t *)b))) continue;
            adze_text_printf(t, "%s%s = ", separator, key);
            describe(t, a);
            adze_text_append(t, ", now ");
            describe(t, b);
            separator = "; ";
        }
    }
}

adze_status adze_config_compare(const char *whose, const char *stored, const char *now, adze_text *list)
{
    adze_status st = ADZE_OK;
    json_t *before = NULL, *after = NULL;
    TRY(parse(&before, stored, ADZE_EINPUT, whose));
    TRY(parse(&after, now, ADZE_EINVAL, whose));
    differences(before, after, list);
    TRY(adze_text_check(list, "a comparison of configurations"));
done:
    json_decref(before);
    json_decref(after);
    return st;
}
