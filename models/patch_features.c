/* patch_features.c - the frozen half of PatchCore and SimpleNet as a graph. Entry: patch_features_build(). */
#include "models/patch_features.h"

#include "models/backbone.h"
#include "models/tap_choice.h"

adze_status patch_features_build(adze_graph *g, const adze_model_setup *s, const char *layers, const adze_patch_embed_opts *embed,
                                 patch_features *out)
{
    adze_status st = ADZE_OK;
    const adze_backbone_info *info;
    tap_choice use;
    adze_value tap[ADZE_BACKBONE_TAPS], feature[ADZE_PATCH_EMBED_LAYERS];
    REQUIRE(embed->patch % 2 == 1, ADZE_EINVAL, "patch=%d, want an odd number", embed->patch);
    TRY(adze_backbone_find(s->backbone, &info));
    TRY(tap_choice_parse(&use, info, "layers", layers, 8, 16, ADZE_PATCH_EMBED_LAYERS));
    out->image = adze_graph_input(g, "image", ADZE_SHAPE(s->batch, s->H, s->W, 3));
    adze_backbone_opts opts = ADZE_BACKBONE_OPTS;
    opts.prefix = "backbone.";
    opts.folded = s->folded;
    opts.last_tap = use.deepest;
    TRY(adze_backbone_build(g, s->backbone, out->image, &opts, tap, NULL));
    for (int i = 0; i < use.n; i++) feature[i] = tap[use.index[i]];
    adze_shape grid = adze_graph_shape(g, feature[0]);
    out->h = grid.dim[1], out->w = grid.dim[2];
    out->rows = adze_patch_embed(g, feature, use.n, embed);
    TRY(adze_graph_check(g));
done:
    return st;
}
