/* test_train_state.c - training checkpoints: bit-exact round trip and continuation, the previous file, damage, misfits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "core/context.h"
#include "core/file.h"
#include "core/graph.h"
#include "core/memory.h"
#include "core/philox.h"
#include "train/train_state.h"

static char folder[] = "/tmp/adze-state-XXXXXX", path[64], previous[64];

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/train.h5", folder);
    snprintf(previous, sizeof previous, "%s/train.prev.h5", folder);
    return 0;
}

static int start(void **state)
{
    (void)state;
    unlink(path);
    unlink(previous);
    return 0;
}

static int teardown(void **state)
{
    start(state);
    return rmdir(folder); /* fails if a temporary file was left */
}

enum { PARAMS = 6, EPOCHS = 5 };
static const struct {
    const char *name;
    adze_shape shape;
    bool trainable;
} layout[PARAMS] = {
    { "decoder.conv.weight", { 4, { 4, 3, 3, 3 } }, true }, { "decoder.bn.running_mean", { 1, { 4 } }, false },
    { "head.weight", { 2, { 7, 33 } }, true },              { "head.bias", { 1, { 7 } }, true },
    { "decoder.bn.running_var", { 1, { 4 } }, false },      { "teacher.conv.weight", { 4, { 8, 3, 1, 1 } }, false },
};
static const char config[] = "{\"lr\": 0.005, \"size\": 64, \"backbone\": \"resnet18\", \"taps\": [1, 2]}";
static const char *const terms[] = { "loss", "cosine/layer1" };

typedef struct {
    adze_ctx *ctx;
    adze_graph *g;
    adze_params *params;
    adze_optim *optim[2];
    bool keep[PARAMS];
    adze_train_position position[2];
    double history[2 * EPOCHS];
    adze_train_state state;
} training;

static void fill(float *x, int64_t n, uint32_t item)
{
    adze_philox_fill_normal((adze_philox){ .seed = 9, .stream = ADZE_STREAM_TEST, .item = item }, 0, x, n);
}

static int64_t count_of(int i) { return adze_shape_count(&layout[i].shape); }

/* Parameters drawn from `item`, Adam over the decoder, SGD over the head. */
static void create(training *t, uint32_t item)
{
    static const char *const decoder[] = { "decoder.", NULL }, *const head[] = { "head.", NULL };
    memset(t, 0, sizeof *t);
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    opts.device = "cpu";
    assert_int_equal(adze_ctx_create(&t->ctx, &opts), ADZE_OK);
    assert_int_equal(adze_graph_create(&t->g), ADZE_OK);
    for (int i = 0; i < PARAMS; i++) adze_graph_param(t->g, layout[i].name, layout[i].shape, layout[i].trainable);
    assert_int_equal(adze_params_create(&t->params, t->ctx, t->g), ADZE_OK);
    for (int i = 0; i < PARAMS; i++) {
        float x[256];
        int at = adze_params_find(t->params, layout[i].name);
        t->keep[at] = strncmp(layout[i].name, "teacher.", 8) != 0;
        fill(x, count_of(i), 100 * item + (uint32_t)i);
        if (i == 1) x[0] = -0.0f, x[1] = 1e-42f, x[2] = NAN, x[3] = -INFINITY;
        assert_int_equal(adze_params_write(t->params, at, x), ADZE_OK);
    }
    adze_optim_opts o = ADZE_OPTIM_OPTS;
    o.name = "decoder", o.prefixes = decoder, o.clip = 5.0;
    assert_int_equal(adze_optim_create(&t->optim[0], t->params, &o), ADZE_OK);
    o = ADZE_OPTIM_OPTS;
    o.name = "head", o.prefixes = head, o.kind = ADZE_OPTIM_SGD, o.momentum = 0.9;
    assert_int_equal(adze_optim_create(&t->optim[1], t->params, &o), ADZE_OK);
    t->position[0].name = "shuffle", t->position[1].name = "schedule";
    t->state = (adze_train_state){
        .method = "rd", .class_name = "bottle", .config_json = config, .params = t->params, .keep = t->keep,
        .optim = t->optim, .n_optims = 2, .position = t->position, .n_positions = 2, .term = terms, .n_terms = 2,
        .history = t->history, .max_epochs = EPOCHS,
    };
}

static void destroy(training *t)
{
    for (int k = 0; k < 2; k++) adze_optim_destroy(t->optim[k]);
    adze_params_destroy(t->params);
    adze_graph_destroy(t->g);
    adze_ctx_destroy(t->ctx);
}

static void epoch(training *t)
{
    for (int i = 0; i < PARAMS; i++) {
        float g[256];
        if (!layout[i].trainable) continue;
        fill(g, count_of(i), 5000 + 100 * (uint32_t)t->state.step + (uint32_t)i);
        assert_int_equal(adze_params_write_grad(t->params, adze_params_find(t->params, layout[i].name), g), ADZE_OK);
    }
    for (int k = 0; k < 2; k++) assert_int_equal(adze_optim_step(t->optim[k], 0.01), ADZE_OK);
    adze_train_state *s = &t->state;
    s->step++, s->epoch++;
    t->history[s->n_epochs] = 1.0 / (double)s->epoch;
    t->history[EPOCHS + s->n_epochs++] = -1.0 / 3.0;
    t->position[0].value += UINT64_C(0x123456789abcdef0);
    t->position[1].value++;
    s->seed = UINT64_C(0xfedcba9876543210);
    s->best = 0.1 * (double)s->epoch, s->best_epoch = s->epoch;
}

static void same(const training *a, const training *b)
{
    int teacher = adze_params_find(a->params, "teacher.conv.weight");
    for (int i = 0; i < PARAMS; i++) {
        float x[2][256];
        adze_shape shape = adze_params_shape(a->params, i);
        assert_int_equal(adze_params_read(a->params, i, x[0]), ADZE_OK);
        assert_int_equal(adze_params_read(b->params, i, x[1]), ADZE_OK);
        if (i != teacher) assert_memory_equal(x[0], x[1], (size_t)adze_shape_count(&shape) * sizeof(float));
    }
    for (int k = 0; k < 2; k++) {
        assert_int_equal(adze_optim_steps(a->optim[k]), adze_optim_steps(b->optim[k]));
        for (int m = 0; adze_optim_state_name(a->optim[k], m); m++)
            for (int j = 0; j < adze_optim_count(a->optim[k]); j++) {
                float x[2][256] = { { 0 } };
                assert_int_equal(adze_optim_state_read(a->optim[k], m, j, x[0]), ADZE_OK);
                assert_int_equal(adze_optim_state_read(b->optim[k], m, j, x[1]), ADZE_OK);
                assert_memory_equal(x[0], x[1], sizeof x[0]);
            }
        assert_true(a->position[k].value == b->position[k].value);
    }
    assert_memory_equal(a->history, b->history, sizeof a->history);
    const adze_train_state *s = &a->state, *t = &b->state;
    assert_true(s->epoch == t->epoch && s->step == t->step && s->seed == t->seed && s->n_epochs == t->n_epochs &&
                s->best == t->best && s->best_epoch == t->best_epoch);
}

static adze_status read_state(training *t, bool force, const char *warning)
{
    adze_text w = ADZE_TEXT_EMPTY;
    adze_status st = adze_train_state_read(&t->state, path, force, &w);
    if (warning) {
        assert_non_null(w.s);
        assert_non_null(strstr(w.s, warning));
    } else assert_null(w.s);
    adze_text_destroy(&w);
    return st;
}

static void test_round_trip(void **state)
{
    (void)state;
    training a, b;
    create(&a, 1);
    create(&b, 2);
    assert_false(adze_train_state_exists(path));
    assert_int_equal(adze_train_state_write(&a.state, path), ADZE_OK); /* before the first epoch */
    assert_true(adze_train_state_exists(path));
    assert_int_equal(read_state(&b, false, NULL), ADZE_OK);
    same(&a, &b);
    for (int k = 0; k < 3; k++) epoch(&a);
    a.state.best = NAN;
    assert_int_equal(adze_train_state_write(&a.state, path), ADZE_OK);
    a.state.best = b.state.best = 0.25;
    assert_int_equal(read_state(&b, false, NULL), ADZE_OK);
    assert_true(isnan(b.state.best));
    b.state.best = 0.25;
    same(&a, &b);
    for (int k = 0; k < 2; k++) { /* the resumed run goes on as the other one */
        epoch(&a);
        epoch(&b);
        same(&a, &b);
    }
    destroy(&a);
    destroy(&b);
}

static void test_equal_states_equal_bytes(void **state)
{
    (void)state;
    training a, b;
    unsigned char *data[2];
    size_t n[2];
    create(&a, 1);
    create(&b, 2);
    epoch(&a);
    assert_int_equal(adze_train_state_write(&a.state, path), ADZE_OK);
    assert_int_equal(adze_file_read(path, 1 << 24, &data[0], &n[0]), ADZE_OK);
    assert_int_equal(read_state(&b, false, NULL), ADZE_OK);
    assert_int_equal(adze_train_state_write(&b.state, path), ADZE_OK);
    assert_int_equal(adze_file_read(path, 1 << 24, &data[1], &n[1]), ADZE_OK);
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(data[0], data[1], n[0]);
    for (int k = 0; k < 2; k++) adze_free(data[k]);
    destroy(&a);
    destroy(&b);
}

/* Two epochs on disk; `damage` is done to the newest file: the state is the one before. */
static void test_damage(void **state)
{
    (void)state;
    training a, b, old;
    unsigned char *data;
    size_t n_bytes;
    create(&a, 1);
    create(&old, 3);
    epoch(&a);
    assert_int_equal(adze_train_state_write(&a.state, path), ADZE_OK);
    assert_int_equal(read_state(&old, false, NULL), ADZE_OK);
    epoch(&a);
    assert_int_equal(adze_train_state_write(&a.state, path), ADZE_OK);
    assert_int_equal(adze_file_read(path, 1 << 24, &data, &n_bytes), ADZE_OK);
    for (int k = 0; k < 60; k++) {
        adze_philox r = { .seed = 9, .stream = ADZE_STREAM_TEST, .item = 77 };
        size_t where = k < 2 ? (size_t)k : (size_t)adze_philox_below(r, (uint64_t)k, n_bytes);
        bool cut = k % 3 == 0;
        create(&b, 2);
        data[where] ^= (unsigned char)(1 << k % 8);
        assert_int_equal(adze_file_write(path, data, cut ? where : n_bytes), ADZE_OK);
        data[where] ^= (unsigned char)(1 << k % 8);
        assert_int_equal(read_state(&b, false, "going on from"), ADZE_OK);
        same(&old, &b);
        destroy(&b);
    }
    create(&b, 2);
    unlink(path); /* stopped between the two renames of a file system without hard links */
    assert_true(adze_train_state_exists(path));
    assert_int_equal(read_state(&b, false, "going on from"), ADZE_OK);
    same(&old, &b);
    assert_int_equal(adze_file_write(path, data, n_bytes / 2), ADZE_OK);
    assert_int_equal(adze_file_write(previous, data, n_bytes - 1), ADZE_OK);
    assert_int_equal(read_state(&b, false, "going on from"), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "predecessor"));
    unlink(path);
    unlink(previous);
    assert_false(adze_train_state_exists(path));
    assert_int_equal(read_state(&b, false, NULL), ADZE_EINPUT);
    adze_free(data);
    destroy(&a);
    destroy(&b);
    destroy(&old);
}

static void test_configuration(void **state)
{
    (void)state;
    training a, b;
    create(&a, 1);
    create(&b, 2);
    epoch(&a);
    assert_int_equal(adze_train_state_write(&a.state, path), ADZE_OK);
    b.state.config_json = "{\"taps\": [1, 2], \"size\": 128, \"lr\": 0.005, \"seed\": 3}";
    assert_int_equal(read_state(&b, false, NULL), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "size = 64, now 128"));
    assert_non_null(strstr(adze_error_message(), "backbone = \"resnet18\", now nothing"));
    assert_non_null(strstr(adze_error_message(), "seed = nothing, now 3"));
    assert_null(strstr(adze_error_message(), "taps"));
    assert_int_equal(b.state.epoch, 0);
    assert_int_equal(read_state(&b, true, "size = 64, now 128"), ADZE_OK);
    same(&a, &b);
    b.state.config_json = "{ \"taps\": [1,2], \"lr\": 5e-3, \"backbone\": \"resnet18\", \"size\": 64}"; /* the same */
    assert_int_equal(read_state(&b, false, NULL), ADZE_OK);
    static const char *const bad[] = { "", "[]", "{", "{\"a\": 1, \"a\": 2}" };
    for (int k = 0; k < 4; k++) {
        a.state.config_json = bad[k];
        assert_int_equal(adze_train_state_write(&a.state, path), ADZE_EINVAL);
    }
    assert_int_equal(read_state(&b, false, NULL), ADZE_OK);
    destroy(&a);
    destroy(&b);
}

static void misfit(training *b, const training *untouched, const char *says)
{
    assert_int_equal(read_state(b, false, NULL), ADZE_EINPUT);
    if (!strstr(adze_error_message(), says)) fail_msg("'%s' does not say '%s'", adze_error_message(), says);
    b->state = untouched->state, b->state.params = b->params, b->state.optim = b->optim, b->state.keep = b->keep;
    b->state.position = b->position, b->state.history = b->history;
    same(untouched, b);
}

static void test_misfits(void **state)
{
    (void)state;
    static const char *const other_terms[] = { "loss", "cosine/layer2" };
    training a, b, untouched;
    create(&a, 1);
    create(&b, 2);
    create(&untouched, 2);
    for (int k = 0; k < 3; k++) epoch(&a);
    assert_int_equal(adze_train_state_write(&a.state, path), ADZE_OK);
    b.state.method = "cflow";
    misfit(&b, &untouched, "method is 'rd', want 'cflow'");
    b.state.class_name = "cable";
    misfit(&b, &untouched, "class is 'bottle', want 'cable'");
    b.state.max_epochs = 2;
    misfit(&b, &untouched, "3 epochs");
    b.state.term = other_terms;
    misfit(&b, &untouched, "/history/cosine.layer2");
    b.position[1].name = "noise";
    misfit(&b, &untouched, "/rng/noise");
    b.position[1].name = "schedule";
    b.state.keep = NULL; /* only the trainable ones */
    misfit(&b, &untouched, "5 parameters, the model has 3");
    int teacher = adze_params_find(b.params, "teacher.conv.weight");
    b.keep[teacher] = true;
    misfit(&b, &untouched, "/model/teacher.conv.weight");
    b.keep[teacher] = false;
    adze_optim *swapped[] = { b.optim[1], b.optim[0] };
    b.state.optim = swapped; /* the order does not matter */
    assert_int_equal(read_state(&b, false, NULL), ADZE_OK);
    same(&a, &b);
    destroy(&b);
    create(&b, 2);
    adze_optim_destroy(b.optim[1]);
    adze_optim_opts o = ADZE_OPTIM_OPTS;
    o.name = "tail";
    assert_int_equal(adze_optim_create(&b.optim[1], b.params, &o), ADZE_OK);
    assert_int_equal(read_state(&b, false, NULL), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "/optimizer.tail"));
    adze_optim_destroy(b.optim[1]);
    o.name = "head";
    assert_int_equal(adze_optim_create(&b.optim[1], b.params, &o), ADZE_OK);
    assert_int_equal(read_state(&b, false, NULL), ADZE_EINPUT);
    assert_non_null(strstr(adze_error_message(), "is sgd, this run uses adam"));
    destroy(&a);
    destroy(&b);
    destroy(&untouched);
}

/* Whichever allocation fails, the old file stays readable and nothing leaks. */
static void test_memory(void **state)
{
    (void)state;
    training a, b, c;
    create(&a, 1);
    create(&b, 2);
    create(&c, 3);
    assert_int_equal(adze_train_state_write(&a.state, path), ADZE_OK);
    epoch(&a);
    size_t live = adze_memory_live_bytes();
    int64_t n = 0;
    for (adze_status st = ADZE_ENOMEM; st != ADZE_OK; n++) {
        adze_memory_fail_after(n + 1, false);
        st = adze_train_state_write(&a.state, path);
        adze_memory_fail_after(0, false);
        assert_true(st == ADZE_OK || st == ADZE_ENOMEM);
        assert_int_equal(adze_memory_live_bytes(), live);
        if (st != ADZE_OK && n % 7 == 0) assert_int_equal(read_state(&c, false, NULL), ADZE_OK);
    }
    assert_true(n > 20);
    n = 0;
    for (adze_status st = ADZE_ENOMEM; st != ADZE_OK; n++) {
        adze_text w = ADZE_TEXT_EMPTY;
        adze_memory_fail_after(n + 1, false);
        st = adze_train_state_read(&b.state, path, false, &w);
        adze_memory_fail_after(0, false);
        adze_text_destroy(&w);
        if (st != ADZE_OK && st != ADZE_ENOMEM) fail_msg("allocation %lld: %s", (long long)n, adze_error_message());
        assert_int_equal(adze_memory_live_bytes(), live);
    }
    assert_true(n > 20);
    same(&a, &b);
    destroy(&a);
    destroy(&b);
    destroy(&c);
}

static void test_unwritable(void **state)
{
    (void)state;
    training a;
    create(&a, 1);
    assert_int_equal(adze_train_state_write(&a.state, "/nowhere/at/all/train.h5"), ADZE_EIO);
    a.position[0].name = "a/b/c";
    assert_int_equal(adze_train_state_write(&a.state, path), ADZE_EINVAL);
    assert_false(adze_train_state_exists(path));
    destroy(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_round_trip, start),    cmocka_unit_test_setup(test_equal_states_equal_bytes, start),
        cmocka_unit_test_setup(test_damage, start),        cmocka_unit_test_setup(test_configuration, start),
        cmocka_unit_test_setup(test_misfits, start),       cmocka_unit_test_setup(test_memory, start),
        cmocka_unit_test_setup(test_unwritable, start),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
