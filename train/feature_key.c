/* feature_key.c - keys of frozen features. Entry: adze_feature_key(), adze_feature_pictures(). */
#include "train/feature_key.h"

#include <string.h>

#include "core/graph_key.h"
#include "core/memory.h"

/* What makes an input of a picture, and a result of an input. */
static void hash_surroundings(adze_sha256 *sha, const adze_ctx *ctx, const adze_feature_input *input)
{
    static const char what[] = "adze " ADZE_VERSION;
    char numerics[ADZE_NUMERICS_TEXT];
    const adze_loader_opts *l = input->loader;
    const int64_t reader[] = { l->H, l->W, l->filter, l->gray16_shift, l->opencv_reader };
    adze_ctx_numerics(ctx, numerics);
    adze_sha256_update(sha, what, sizeof what);
    adze_sha256_update(sha, numerics, strlen(numerics) + 1);
    adze_sha256_update(sha, reader, sizeof reader);
    adze_sha256_update(sha, input->normalize->value, sizeof input->normalize->value);
}

adze_status adze_feature_key(const adze_graph *g, const adze_params *params, const adze_value *v, int n,
                             const adze_feature_input *input, adze_feature_value *out)
{
    adze_status st = ADZE_OK;
    unsigned char graph[ADZE_FEATURE_CACHE_VALUES][ADZE_SHA256_BYTES];
    REQUIRE(n <= ADZE_FEATURE_CACHE_VALUES, ADZE_EINTERNAL, "feature cache: %d values, at most %d", n, ADZE_FEATURE_CACHE_VALUES);
    TRY(adze_graph_key(g, params, v, n, graph));
    for (int k = 0; k < n; k++) {
        adze_sha256 sha;
        adze_shape shape = adze_graph_shape(g, v[k]);
        adze_sha256_init(&sha);
        hash_surroundings(&sha, adze_params_ctx(params), input);
        adze_sha256_update(&sha, graph[k], sizeof graph[k]);
        adze_sha256_final(&sha, out[k].key.byte);
        out[k].floats = adze_shape_count(&shape) / input->batch;
    }
done:
    return st;
}

static int hex_value(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

adze_status adze_feature_pictures(const adze_data_item *items, int64_t n, adze_digest *digest)
{
    char hex[ADZE_SHA256_HEX];
    for (int64_t i = 0; i < n; i++) {
        adze_status st = adze_sha256_file(items[i].image_path, hex);
        if (st != ADZE_OK) return st;
        for (int k = 0; k < ADZE_SHA256_BYTES; k++)
            digest[i].byte[k] = (unsigned char)(hex_value(hex[2 * k]) << 4 | hex_value(hex[2 * k + 1]));
    }
    return ADZE_OK;
}
