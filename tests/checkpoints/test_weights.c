/* test_weights.c - lists of backbone tensors, import of files that fit and that do not, the weights file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoints/backbone_tensors.h"
#include "checkpoints/weights.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/memory.h"
#include "core/text.h"

static char folder[] = "/tmp/adze-test-XXXXXX", source[96], path[96];

static int make_folder(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(source, sizeof source, "%s/source.safetensors", folder);
    snprintf(path, sizeof path, "%s/weights.h5", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(source), unlink(path);
    return rmdir(folder);
}

/* Published parameter counts and state dict sizes (specs/backbone-resnet.md 8, backbone-efficientnet.md 3.4, 3.5). */
static void lists_have_the_published_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t n_parameters, n_entries, n_tail_entries;
    } cases[] = {
        { "resnet18", 11689512, 122, 0 },        { "resnet34", 21797672, 218, 0 },           { "resnet50", 25557032, 320, 0 },
        { "wide_resnet50_2", 68883240, 320, 0 }, { "efficientnet_lite0", 4652008, 296, 288 }, { "tf_efficientnet_b4", 19341616, 706, 698 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        adze_backbone_list l;
        int64_t n = 0, head = 0;
        assert_string_equal(adze_backbone_tensors_name((int)i), cases[i].name);
        assert_int_equal(adze_backbone_tensors(cases[i].name, false, &l), ADZE_OK);
        for (int64_t k = 0; k < l.count; k++) {
            int64_t count = 1;
            for (int d = 0; d < l.tensor[k].rank; d++) count *= l.tensor[k].dim[d];
            if (!strstr(l.tensor[k].name, "running") && !strstr(l.tensor[k].name, "num_batches")) n += count;
            head += l.tensor[k].part > 0;
        }
        assert_int_equal(n, cases[i].n_parameters);
        assert_int_equal(l.count, cases[i].n_entries);
        if (cases[i].n_tail_entries) assert_int_equal(l.count - head, cases[i].n_tail_entries);
        adze_backbone_list_destroy(&l);
    }
    assert_null(adze_backbone_tensors_name(6));
    adze_backbone_list l;
    assert_int_equal(adze_backbone_tensors("resnet81", false, &l), ADZE_EINVAL);
    assert_non_null(strstr(adze_error_message(), "resnet18"));
}

typedef struct {
    const char *backbone, *prefix;
    bool source_names, half, tail, counters;
    const char *leave_out, *rename, *reshape; /* a tensor each */
} recipe;

/* Values from names: 1/1024 steps in [-1, 1), exact in half precision. */
static float value_of(const char *name, int64_t i)
{
    uint64_t h = adze_splitmix64(adze_fnv1a64(ADZE_FNV1A64_OFFSET, name, strlen(name)) + (uint64_t)i);
    return (float)(int64_t)(h % 2048) * 0x1p-10f - 1.0f;
}

static uint16_t half_of(float x)
{
    if (x == 0.0f) return 0;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16 & 0x8000) | (uint16_t)(((bits >> 23 & 255) - 112) << 10) | (uint16_t)(bits >> 13 & 1023);
}

/* A safetensors file as the recipe says, written to `source`. */
static void make_source(const recipe *r)
{
    adze_backbone_list l;
    adze_text head = ADZE_TEXT_EMPTY, data = ADZE_TEXT_EMPTY, file = ADZE_TEXT_EMPTY;
    assert_int_equal(adze_backbone_tensors(r->backbone, false, &l), ADZE_OK);
    adze_text_append(&head, "{");
    for (int64_t k = 0; k < l.count; k++) {
        const adze_backbone_tensor *t = &l.tensor[k];
        const char *name = r->source_names ? t->source_name : t->name;
        bool counter = t->need == ADZE_NEED_COUNTER;
        if ((!r->tail && t->part) || (counter && !r->counters) || (r->leave_out && strcmp(t->name, r->leave_out) == 0)) continue;
        if (r->rename && strcmp(t->name, r->rename) == 0) name = "stranger";
        size_t begin = data.n_bytes;
        int64_t count = 1;
        adze_text_printf(&head, "%s\"%s%s\":{\"dtype\":\"%s\",\"shape\":[", head.n_bytes > 1 ? "," : "", r->prefix ? r->prefix : "", name,
                         counter ? "I64" : r->half ? "F16" : "F32");
        for (int d = 0; d < t->rank; d++) {
            adze_text_printf(&head, d ? ",%lld" : "%lld", (long long)t->dim[d]);
            count *= t->dim[d];
        }
        if (r->reshape && strcmp(t->name, r->reshape) == 0) adze_text_append(&head, t->rank ? ",1" : "1");
        for (int64_t i = 0; i < count; i++) {
            float x = value_of(t->name, i);
            uint16_t h = half_of(x);
            int64_t steps = 12345678901;
            if (counter) adze_text_append_n(&data, (const char *)&steps, 8);
            else if (r->half) adze_text_append_n(&data, (const char *)&h, 2);
            else adze_text_append_n(&data, (const char *)&x, 4);
        }
        adze_text_printf(&head, "],\"data_offsets\":[%zu,%zu]}", begin, data.n_bytes);
    }
    adze_text_append(&head, "}");
    uint64_t n = head.n_bytes;
    adze_text_append_n(&file, (const char *)&n, 8);
    adze_text_append_n(&file, head.s, head.n_bytes);
    adze_text_append_n(&file, data.s, data.n_bytes);
    assert_int_equal(adze_text_check(&file, "file"), ADZE_OK);
    assert_int_equal(adze_file_write(source, file.s, file.n_bytes), ADZE_OK);
    adze_text_destroy(&head), adze_text_destroy(&data), adze_text_destroy(&file);
    adze_backbone_list_destroy(&l);
}

static void a_file_that_fits_is_imported(void **state)
{
    (void)state;
    static const recipe recipes[] = {
        { .backbone = "efficientnet_lite0", .source_names = true, .half = true, .tail = true, .counters = true },
        { .backbone = "efficientnet_lite0", .prefix = "net.model.", .half = true },
    };
    for (int k = 0; k < 2; k++) {
        adze_tensor_file *f;
        adze_weights *w;
        const adze_stored_tensor *t;
        adze_weights_select select = { k ? "net" : NULL, k ? "model." : NULL };
        make_source(&recipes[k]);
        assert_int_equal(adze_tensor_file_read(&f, source, NULL), ADZE_OK);
        assert_string_equal(adze_weights_guess(f, &select), "efficientnet_lite0");
        assert_int_equal(adze_weights_write(path, f, "efficientnet_lite0", source, &select), ADZE_OK);
        assert_int_equal(adze_weights_open(&w, path), ADZE_OK);
        const adze_weights_info *info = adze_weights_get_info(w);
        assert_string_equal(info->backbone, "efficientnet_lite0");
        assert_string_equal(info->sha256, adze_tensor_file_sha256(f));
        assert_string_equal(info->source, "source.safetensors");
        assert_string_equal(info->source_format, "safetensors");
        assert_string_equal(info->tag, "");
        assert_true(!info->folded && info->mean[1] == (float)(127.0 / 255.0) && info->std[2] == (float)(128.0 / 255.0));
        assert_int_equal(adze_weights_count(w), k ? 288 - 48 : 296); /* 48 counters before the head */
        for (int64_t i = 0; (t = adze_weights_at(w, i)); i++) {
            char name[88];
            snprintf(name, sizeof name, "%s", t->name);
            assert_int_equal(adze_weights_find(w, name, &t), ADZE_OK);
            assert_int_equal(t->type, ADZE_DTYPE_F32);
            const float *x = (const float *)t->data;
            bool counter = strstr(name, "num_batches") != NULL;
            for (int64_t e = 0; e < t->count; e++) assert_true(x[e] == (counter ? 12345678901.0f : value_of(name, e)));
        }
        assert_int_equal(adze_weights_has(w, "classifier.bias"), !k);
        assert_int_equal(adze_weights_find(w, "absent", &t), ADZE_EINPUT);
        adze_weights_close(w);
        adze_tensor_file_destroy(f);
    }
}

static void what_does_not_fit_is_listed_completely(void **state)
{
    (void)state;
    const recipe r = { .backbone = "efficientnet_lite0", .half = true, .tail = true, .leave_out = "bn1.bias", .rename = "conv_head.weight",
                       .reshape = "blocks.3.1.bn2.weight" };
    adze_tensor_file *f;
    adze_weights_report report;
    make_source(&r);
    assert_int_equal(adze_tensor_file_read(&f, source, NULL), ADZE_OK);
    assert_int_equal(adze_weights_check(f, "efficientnet_lite0", NULL, &report), ADZE_OK);
    assert_int_equal(report.n_missing, 2);
    assert_int_equal(report.n_unexpected, 1);
    assert_int_equal(report.n_mismatched, 1);
    assert_false(adze_weights_fits(&report));
    assert_non_null(strstr(report.text.s, "missing     bn1.bias [32]\n"));
    assert_non_null(strstr(report.text.s, "missing     conv_head.weight [1280,320,1,1]\n"));
    assert_non_null(strstr(report.text.s, "unexpected  stranger [1280,320,1,1]\n"));
    assert_non_null(strstr(report.text.s, "mismatched  blocks.3.1.bn2.weight is f16 [480,1], want f32, f16 or bf16 [480]\n"));
    adze_weights_report_destroy(&report);
    assert_null(adze_weights_guess(f, NULL));
    unlink(path);
    assert_int_equal(adze_weights_write(path, f, "efficientnet_lite0", source, NULL), ADZE_EINPUT);
    assert_false(adze_file_exists(path));
    assert_int_equal(adze_weights_check(f, "resnet50", NULL, &report), ADZE_OK);
    assert_false(adze_weights_fits(&report));
    adze_weights_report_destroy(&report);
    assert_int_equal(adze_weights_check(f, "nonsense", NULL, &report), ADZE_EINVAL);
    adze_weights_report_destroy(&report);
    adze_tensor_file_destroy(f);
}

static void a_name_that_promises_another_digest_is_refused(void **state)
{
    (void)state;
    adze_tensor_file *f;
    const recipe r = { .backbone = "efficientnet_lite0", .half = true };
    make_source(&r);
    assert_int_equal(adze_tensor_file_read(&f, source, NULL), ADZE_OK);
    assert_int_equal(adze_weights_write(path, f, "efficientnet_lite0", "some/where-5c106cde.pth", NULL), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "5c106cde"));
    char promise[64];
    snprintf(promise, sizeof promise, "net-%.8s.pth", adze_tensor_file_sha256(f));
    assert_int_equal(adze_weights_write(path, f, "efficientnet_lite0", promise, NULL), ADZE_OK);
    adze_tensor_file_destroy(f);
    assert_string_equal(adze_weights_tag("95faca4d0000"), "wide_resnet50_2.tv_in1k");
    assert_string_equal(adze_weights_tag("00000000"), "");
}

static void other_files_are_no_weights(void **state)
{
    (void)state;
    adze_weights *w;
    assert_int_equal(adze_weights_open(&w, source), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "adze-weights import"));
    assert_int_equal(adze_weights_open(&w, "/nowhere.h5"), ADZE_EINPUT);
    assert_null(w);
}

/* The genuine folded weights beside the project, where they are there. */
static void the_real_folder_is_imported(void **state)
{
    (void)state;
    static const char real[] = "../shared/data/resnet18-l3";
    adze_tensor_file *f;
    adze_weights *w;
    const adze_stored_tensor *t;
    if (!adze_folder_exists(real)) {
        fprintf(stderr, "test_weights: SKIPPED the_real_folder_is_imported: no %s\n", real);
        skip();
    }
    assert_int_equal(adze_tensor_file_read(&f, real, NULL), ADZE_OK);
    assert_int_equal(adze_weights_write(path, f, "resnet18", real, NULL), ADZE_OK);
    assert_int_equal(adze_weights_open(&w, path), ADZE_OK);
    assert_true(adze_weights_get_info(w)->folded);
    assert_int_equal(adze_weights_count(w), 32);
    assert_int_equal(adze_weights_find(w, "layer3.1.conv2.bias", &t), ADZE_OK);
    assert_memory_equal(t->data, adze_tensor_file_find(f, "layer3.1.conv2.bias")->data, 256 * sizeof(float));
    adze_weights_close(w);
    adze_tensor_file_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_have_the_published_sizes),
        cmocka_unit_test(a_file_that_fits_is_imported),
        cmocka_unit_test(what_does_not_fit_is_listed_completely),
        cmocka_unit_test(a_name_that_promises_another_digest_is_refused),
        cmocka_unit_test(other_files_are_no_weights),
        cmocka_unit_test(the_real_folder_is_imported),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
