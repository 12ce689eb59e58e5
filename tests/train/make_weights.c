/* make_weights.c - BACKBONE's tensors, filled by the rule of tests/golden/README.md, as a safetensors file on stdout: real
 * enough to run whole programs on, and made in no time. Parts behind the taps are left out, as a file may. With a SEED every
 * number is moved by one unit in its last place, up or down by chance: what rounding does to it. make_weights BACKBONE [SEED] */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/backbone_tensors.h"
#include "core/philox.h"
#include "core/text.h"
#include "tests/golden/case_tensor.h"

static int64_t count_of(const adze_backbone_tensor *t)
{
    int64_t n = 1;
    for (int d = 0; d < t->rank; d++) n *= t->dim[d];
    return n;
}

static void move(float *w, int64_t n, uint64_t seed, uint32_t item)
{
    float *u = malloc((size_t)n * sizeof *u);
    if (!u) return;
    adze_philox_fill_uniform((adze_philox){ .seed = seed, .stream = ADZE_STREAM_TEST, .item = item }, 0, u, n);
    for (int64_t i = 0; i < n; i++) w[i] = nextafterf(w[i], u[i] < 0.5f ? -INFINITY : INFINITY);
    free(u);
}

int main(int argc, char **argv)
{
    adze_backbone_list list = { 0 };
    adze_text header = ADZE_TEXT_EMPTY;
    int64_t end = 0;
    if (argc < 2 || argc > 3 || adze_backbone_tensors(argv[1], false, &list) != ADZE_OK) {
        fprintf(stderr, "make_weights: %s\n", argc == 2 || argc == 3 ? adze_error_message() : "want a backbone, and perhaps a seed");
        return 2;
    }
    adze_text_append(&header, "{");
    for (int64_t i = 0; i < list.count; i++) {
        const adze_backbone_tensor *t = &list.tensor[i];
        if (t->need != ADZE_NEED_ALWAYS) continue;
        adze_text_printf(&header, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", end ? "," : "", t->name);
        for (int d = 0; d < t->rank; d++) adze_text_printf(&header, "%s%" PRId64, d ? "," : "", t->dim[d]);
        adze_text_printf(&header, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", end, end + count_of(t) * 4);
        end += count_of(t) * 4;
    }
    adze_text_append(&header, "}");
    while (header.n_bytes % 8) adze_text_append(&header, " ");
    uint64_t length = header.n_bytes;
    fwrite(&length, sizeof length, 1, stdout);
    fwrite(header.s, 1, header.n_bytes, stdout);
    for (int64_t i = 0; i < list.count; i++) {
        const adze_backbone_tensor *t = &list.tensor[i];
        if (t->need != ADZE_NEED_ALWAYS) continue;
        float *w = golden_weight(t->name, t->dim, t->rank);
        if (argc == 3) move(w, count_of(t), strtoull(argv[2], NULL, 10), (uint32_t)i);
        fwrite(w, sizeof *w, (size_t)count_of(t), stdout);
        free(w);
    }
    adze_text_destroy(&header);
    adze_backbone_list_destroy(&list);
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 4;
}
