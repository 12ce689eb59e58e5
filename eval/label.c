/* label.c - 8-connected regions by union-find over runs instead of pixels. Entry: adze_labels_find().
 * The root of a set is its first run in raster order, so numbering the roots in order numbers the regions by their
 * first pixel. */
#include "eval/label.h"

#include <string.h>

#include "core/memory.h"

/* `run` and `area` share one block with the parents, which lie behind them: see create. */
static int32_t *parents(const adze_labels *l)
{
    return (int32_t *)(l->area + l->H * ((l->W + 1) / 2));
}

adze_status adze_labels_create(adze_labels *l, int64_t H, int64_t W)
{
    adze_status st = ADZE_OK;
    *l = (adze_labels){ .H = H, .W = W };
    const int64_t longest = INT64_C(1) << 30;
    REQUIRE(H > 0 && H <= longest && W > 0 && W <= longest, ADZE_EINVAL, "labels: %lld x %lld pixels", (long long)H,
            (long long)W);
    int64_t room = H * ((W + 1) / 2); /* most runs, when every second pixel is set */
    REQUIRE(room <= INT32_MAX, ADZE_EINVAL, "labels: %lld x %lld pixels are too many", (long long)H, (long long)W);
    size_t each_bytes = sizeof *l->run + sizeof *l->area + sizeof(int32_t);
    l->run = adze_malloc((size_t)room * each_bytes);
    REQUIRE(l->run, ADZE_ENOMEM, "labels: %zu host bytes", (size_t)room * each_bytes);
    l->area = (int64_t *)(l->run + room);
done:
    return st;
}

void adze_labels_destroy(adze_labels *l)
{
    if (!l) return;
    adze_free(l->run);
    *l = (adze_labels){ 0 };
}

static int32_t root_of(int32_t *parent, int32_t i)
{
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
}

static void join(int32_t *parent, int32_t a, int32_t b)
{
    a = root_of(parent, a), b = root_of(parent, b);
    if (a < b) parent[b] = a;
    else parent[a] = b;
}

/* First nonzero byte at or after x; W if there is none. Eight zeros are skipped at once. */
static int64_t next_set(const unsigned char *row, int64_t x, int64_t W)
{
    for (uint64_t eight; x + 8 <= W; x += 8) {
        memcpy(&eight, row + x, 8);
        if (eight != 0) break;
    }
    while (x < W && row[x] == 0) x++;
    return x;
}

void adze_labels_find(adze_labels *l, const unsigned char *mask)
{
    int32_t *parent = parents(l), n = 0, above = 0, above_end = 0;
    for (int64_t y = 0; y < l->H; y++) {
        const unsigned char *row = mask + y * l->W;
        int32_t first = n, a = above;
        for (int64_t x = next_set(row, 0, l->W); x < l->W; x = next_set(row, x, l->W)) {
            const unsigned char *end = memchr(row + x, 0, (size_t)(l->W - x));
            int32_t x_end = (int32_t)(end ? end - row : l->W);
            l->run[n] = (adze_label_run){ (int32_t)y, (int32_t)x, x_end, 0 };
            parent[n] = n;
            /* runs of the row above that touch [x - 1, x_end]: ends are exclusive, so a corner touches with equality */
            while (a < above_end && l->run[a].x_end < x) a++;
            for (int32_t b = a; b < above_end && l->run[b].x_begin <= x_end; b++) join(parent, n, b);
            x = x_end;
            n++;
        }
        above = first, above_end = n;
    }
    l->n_runs = n;
    l->n_regions = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t root = root_of(parent, i);
        if (root == i) {
            l->run[i].region = (int32_t)l->n_regions;
            l->area[l->n_regions++] = 0;
        }
        l->run[i].region = l->run[root].region;
        l->area[l->run[i].region] += l->run[i].x_end - l->run[i].x_begin;
    }
}
