/* test_loader.c - order, bounded queue, broken pictures, masks, early end; the same bytes with any number of threads. */
#include "core/sha256.h"
#include "datasets/loader.h"
#include "datasets/mask.h"
#include "tests/datasets/made_up.h"

enum { N = 24, H = 17, W = 13 };

/* N pictures: every third is defective with a mask, the last defective without; sizes differ. */
typedef struct {
    char root[64], image[N][128], mask[N][128];
    adze_data_item items[N];
} pictures;

static void put_pictures(pictures *p)
{
    char root[64];
    make_root(root);
    strcpy(p->root, root);
    for (int i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof name, "%02d.png", i);
        put_image(root, name, 20 + i, 31 - i, i % 2 ? 1 : 3, (uint64_t)i * 1000);
        snprintf(p->image[i], sizeof p->image[i], "%s/%s", root, name);
        snprintf(name, sizeof name, "%02d_mask.png", i);
        bool bad = i % 3 == 1 || i == N - 1, masked = i % 3 == 1;
        if (masked) put_image(root, name, 20 + i, 31 - i, 1, 7);
        snprintf(p->mask[i], sizeof p->mask[i], "%s/%s", root, name);
        p->items[i] = (adze_data_item){ "c", p->image[i], p->image[i], masked ? p->mask[i] : NULL, bad ? "hole" : "good",
                                        ADZE_SPLIT_TEST, bad ? ADZE_LABEL_BAD : ADZE_LABEL_GOOD };
    }
}

static adze_loader_opts small(int n_threads, int64_t queue)
{
    adze_loader_opts o = ADZE_LOADER_OPTS;
    o.H = H, o.W = W, o.masks = true, o.n_threads = n_threads, o.queue = queue;
    return o;
}

static void digest(const pictures *p, int n_threads, int64_t queue, char hex[ADZE_SHA256_HEX])
{
    adze_loader *l;
    const adze_sample *s;
    adze_loader_opts o = small(n_threads, queue);
    adze_sha256 hash;
    unsigned char bytes[ADZE_SHA256_BYTES];
    adze_sha256_init(&hash);
    assert_int_equal(adze_loader_create(&l, p->items, N, NULL, 0, &o), ADZE_OK);
    for (int i = 0; i < N; i++) {
        assert_int_equal(adze_loader_next(l, &s), ADZE_OK);
        assert_non_null(s);
        assert_int_equal(s->position, i);
        assert_ptr_equal(s->item, &p->items[i]);
        assert_int_equal(s->H_original, 20 + i);
        assert_int_equal(s->W_original, 31 - i);
        assert_int_equal(s->mask == NULL, i == N - 1);
        adze_sha256_update(&hash, s->rgb, H * W * 3);
        if (s->mask) adze_sha256_update(&hash, s->mask, H * W);
        for (int k = 0; s->mask && k < H * W; k++) assert_true(s->mask[k] <= (s->item->label == ADZE_LABEL_BAD));
    }
    for (int again = 0; again < 2; again++) {
        assert_int_equal(adze_loader_next(l, &s), ADZE_OK);
        assert_null(s);
    }
    assert_int_equal(adze_loader_delivered(l), N);
    assert_true(adze_loader_waited_s(l) >= 0.0);
    adze_loader_destroy(l);
    adze_sha256_final(&hash, bytes);
    adze_sha256_hex(bytes, hex);
}

static void threads_and_queue_do_not_matter(void **state)
{
    (void)state;
    pictures p;
    char one[ADZE_SHA256_HEX], many[ADZE_SHA256_HEX];
    put_pictures(&p);
    digest(&p, 1, 1, one);
    static const int threads[] = { 1, 2, 5, 16 };
    for (int i = 0; i < 4; i++)
        for (int64_t queue = 0; queue <= 7; queue += 7) {
            digest(&p, threads[i], queue, many);
            assert_string_equal(one, many);
        }
    drop_root(p.root);
}

static void queue_bounds_the_memory(void **state)
{
    (void)state;
    pictures p;
    adze_loader *l;
    const adze_sample *s;
    put_pictures(&p);
    adze_loader_opts o = small(2, 3);
    size_t before = adze_memory_live_bytes(), queue = adze_loader_queue_bytes(&o);
    adze_memory_peak_reset();
    assert_int_equal(adze_loader_create(&l, p.items, N, NULL, 0, &o), ADZE_OK);
    do assert_int_equal(adze_loader_next(l, &s), ADZE_OK);
    while (s);
    adze_loader_destroy(l);
    assert_int_equal(adze_memory_live_bytes(), before);
    /* each of two workers: file, picture, resize buffers with 64-row blocks, libpng's 32 kB window and tables */
    assert_true(adze_memory_peak_bytes() - before < queue + 2 * 200000 + 4096);
    drop_root(p.root);
}

static void order_is_the_callers(void **state)
{
    (void)state;
    pictures p;
    adze_loader *l;
    const adze_sample *s;
    static const int64_t order[] = { 22, 0, 5, 5, 1 }, wrong[] = { 0, N };
    put_pictures(&p);
    adze_loader_opts o = small(3, 4);
    assert_int_equal(adze_loader_create(&l, p.items, N, order, 5, &o), ADZE_OK);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(adze_loader_next(l, &s), ADZE_OK);
        assert_ptr_equal(s->item, &p.items[order[i]]);
    }
    adze_loader_destroy(l);
    assert_int_equal(adze_loader_create(&l, p.items, N, wrong, 2, &o), ADZE_EINVAL);
    o.H = 0;
    assert_int_equal(adze_loader_create(&l, p.items, N, NULL, 0, &o), ADZE_EINVAL);
    o = small(2, 0);
    assert_int_equal(adze_loader_create(&l, p.items, 0, NULL, 0, &o), ADZE_OK);
    assert_int_equal(adze_loader_next(l, &s), ADZE_OK);
    assert_null(s);
    adze_loader_destroy(l);
    drop_root(p.root);
}

static void broken_picture_in_the_middle_is_that_items_error(void **state)
{
    (void)state;
    pictures p;
    adze_loader *l;
    const adze_sample *s;
    put_pictures(&p);
    put_bytes(p.root, "05.png", "\x89PNG\r\n\x1a\n broken", 15);
    put_image(p.root, "07_mask.png", 5, 5, 1, 1); /* wrong size */
    assert_int_equal(unlink(p.image[11]), 0);
    adze_loader_opts o = small(3, 5);
    assert_int_equal(adze_loader_create(&l, p.items, N, NULL, 0, &o), ADZE_OK);
    for (int i = 0; i < N; i++) {
        bool broken = i == 5 || i == 7 || i == 11;
        assert_int_equal(adze_loader_next(l, &s), broken ? ADZE_EINPUT : ADZE_OK);
        assert_int_equal(s->status, broken ? ADZE_EINPUT : ADZE_OK);
        assert_int_equal(s->rgb == NULL, broken);
        if (!broken) assert_string_equal(s->error, "");
        else assert_non_null(strstr(s->error, i == 7 ? "07_mask.png: mask of 5x5" : p.image[i]));
        if (broken) assert_string_equal(s->error, adze_error_message());
    }
    adze_loader_destroy(l);
    drop_root(p.root);
}

static void loader_ends_at_any_time(void **state)
{
    (void)state;
    pictures p;
    const adze_sample *s;
    put_pictures(&p);
    adze_loader_opts o = small(4, 4);
    for (int stop = 0; stop <= N; stop += 3) {
        adze_loader *l;
        assert_int_equal(adze_loader_create(&l, p.items, N, NULL, 0, &o), ADZE_OK);
        for (int i = 0; i < stop; i++) assert_int_equal(adze_loader_next(l, &s), ADZE_OK);
        adze_loader_destroy(l);
    }
    adze_loader_destroy(NULL);
    drop_root(p.root);
}

static void lost_memory_is_an_items_status(void **state)
{
    (void)state;
    pictures p;
    put_pictures(&p);
    size_t before = adze_memory_live_bytes();
    bool clean = false;
    for (int64_t fail = 1; !clean; fail++) {
        adze_loader *l;
        const adze_sample *s = NULL;
        adze_loader_opts o = small(2, 2);
        adze_memory_fail_after(fail, false);
        adze_status st = adze_loader_create(&l, p.items, 3, NULL, 0, &o);
        clean = st == ADZE_OK;
        assert_true(clean || (st == ADZE_ENOMEM && l == NULL));
        for (int i = 0; l && i < 3; i++) {
            st = adze_loader_next(l, &s);
            assert_true(st == ADZE_OK || st == ADZE_ENOMEM);
            clean = clean && st == ADZE_OK;
        }
        adze_memory_fail_after(0, false);
        adze_loader_destroy(l);
        assert_int_equal(adze_memory_live_bytes(), before);
        assert_true(fail < 2000);
    }
    drop_root(p.root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_queue_do_not_matter),
        cmocka_unit_test(queue_bounds_the_memory),
        cmocka_unit_test(order_is_the_callers),
        cmocka_unit_test(broken_picture_in_the_middle_is_that_items_error),
        cmocka_unit_test(loader_ends_at_any_time),
        cmocka_unit_test(lost_memory_is_an_items_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
