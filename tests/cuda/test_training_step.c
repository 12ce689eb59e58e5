/* test_training_step.c - a whole training step on the device (train/trainer.c): one recorded graph per run, with the optimisers in
 * it; no wait of the host inside a step; the bits of steps that are launched call by call, while rates change; and what a number
 * that is not finite leaves behind although the next step is queued already. */
#include <math.h>
#include <stdlib.h>

#include "core/backend.h"
#include "core/options.h"
#include "core/philox.h"
#include "cusim.h"
#include "datasets/synth.h"
#include "tests/datasets/made_up.h"
#include "train/trainer.h"

#define OK(call) \
    do { \
        if ((call) != ADZE_OK) fail_msg("%s", adze_error_message()); \
    } while (0)

enum { SIDE = 32, BATCH = 2, PICTURES = 8, PER_EPOCH = PICTURES / BATCH, MAX_STEPS = 64 };

static adze_ctx *ctx;
static char root[64];
static adze_dataset *data;
static adze_normalize normalize;

static int open_all(void **state)
{
    (void)state;
    adze_ctx_opts opts = ADZE_CTX_OPTS;
    const adze_synth_opts pictures = { .n_classes = 1, .n_train = PICTURES, .n_test_good = 1, .n_test_bad = 1, .size = 64, .seed = 3 };
    opts.device = "cusim";
    make_root(root);
    OK(adze_synth_write(root, &pictures));
    OK(adze_dataset_open(&data, root, NULL));
    OK(adze_ctx_create(&ctx, &opts));
    adze_normalize_init(&normalize, adze_imagenet_mean, adze_imagenet_std);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    adze_dataset_destroy(data);
    adze_ctx_destroy(ctx);
    drop_root(root);
    return 0;
}

/* ---- the method "tiny", watched ---- */

static struct {
    int64_t first_fill, last_fill; /* waits of the host so far, at the first and the last fill of the step being queued */
    bool waited_inside;            /* between the two */
} seen;

static adze_status find_weight(void *user, const char *name, adze_shape *shape, const float **values)
{
    static float w[64 * 3 * 7 * 7];
    (void)user;
    *shape = ADZE_SHAPE(64, 3, 7, 7);
    adze_philox_fill_normal((adze_philox){ .seed = 2, .stream = ADZE_STREAM_TEST }, 0, w, (int64_t)(sizeof w / sizeof *w));
    for (size_t i = 0; i < sizeof w / sizeof *w; i++) w[i] *= 0.05f;
    *values = w;
    return strcmp(name, "backbone.conv1.weight") == 0 || strcmp(name, "conv1.weight") == 0 ? ADZE_OK : adze_fail(ADZE_EINPUT, "no %s", name);
}

static const adze_method *tiny(void)
{
    const adze_method *m;
    OK(adze_method_find("tiny", &m));
    return m;
}

/* Rates change in every step: a warm-up and a cosine. */
static void training(adze_model *m, int64_t epochs, adze_training *out)
{
    tiny()->training(m, epochs, out);
    out->meta_epochs = epochs;
}

static adze_status fill(adze_model *m, const adze_training_at *at, const char *input, float *x)
{
    int64_t waits = cusim_calls_so_far().waits;
    if (at->run == 0) seen.first_fill = waits;
    seen.last_fill = waits;
    seen.waited_inside |= waits != seen.first_fill;
    return tiny()->fill(m, at, input, x);
}

typedef struct {
    adze_method method;
    adze_recipe recipe;
    adze_options *options;
    adze_model *model;
    trainer *t;
    int64_t n_steps;
    double loss[MAX_STEPS], lr[MAX_STEPS], grad_norm[MAX_STEPS];
    cusim_calls calls[MAX_STEPS]; /* when the step was reported */
    int64_t stop_behind;          /* so many steps; 0: never */
} job;

static void begin(job *j, bool parts, bool singly, trainer_cache_kind cache, int64_t epochs)
{
    *j = (job){ .method = *tiny() };
    j->recipe = *tiny()->recipe;
    j->recipe.rate = ADZE_RATE_META;
    j->method.recipe = &j->recipe;
    j->method.training = training, j->method.fill = fill;
    OK(adze_options_create(&j->options));
    OK(adze_options_add(j->options, j->method.options, j->method.n_options));
    if (parts) OK(adze_options_set(j->options, "parts", "yes", ADZE_ORIGIN_DEFAULT, NULL));
    const adze_model_setup setup = { .ctx = ctx, .backbone = "resnet18", .H = SIDE, .W = SIDE, .batch = BATCH, .seed = 5, .options = j->options,
                                     .weights = { find_weight, NULL }, .fit = true };
    OK(j->method.create(&j->model, &setup));
    int64_t n;
    const adze_data_item *items = adze_dataset_items(data, "product_01", ADZE_SPLIT_TRAIN, &n);
    assert_int_equal(n, PICTURES);
    const trainer_opts opts = { .ctx = ctx, .method = &j->method, .model = j->model, .items = items, .n = n, .H = SIDE, .W = SIDE, .batch = BATCH,
                                .epochs = epochs, .lr = 0.01, .seed = 5, .normalize = &normalize, .mean = adze_imagenet_mean,
                                .std = adze_imagenet_std, .cache = { .kind = cache } };
    OK(trainer_create(&j->t, &opts));
    trainer_profile(j->t, singly);
    int64_t found;
    OK(trainer_fill_cache(j->t, NULL, &found));
}

static void end(job *j)
{
    trainer_destroy(j->t);
    j->method.destroy(j->model);
    adze_options_destroy(j->options);
}

static adze_status report(void *user, const trainer_step *s)
{
    job *j = user;
    assert_int_equal(s->step, j->n_steps);
    j->loss[s->step] = s->loss, j->lr[s->step] = s->lr, j->grad_norm[s->step] = s->grad_norm;
    j->calls[s->step] = cusim_calls_so_far();
    j->n_steps++;
    return j->n_steps == j->stop_behind ? adze_fail(ADZE_EINTERRUPTED, "enough") : ADZE_OK;
}

static adze_status epochs(job *j, int64_t first, int64_t n)
{
    adze_status st = ADZE_OK;
    for (int64_t e = first; e < n && st == ADZE_OK; e++) {
        j->n_steps = e * PER_EPOCH;
        st = trainer_epoch(j->t, e, 0, report, j);
    }
    return st;
}

/* All that outlives a step. */
static void same_state(job *a, job *b)
{
    enum { MOST = 64 * 3 * 7 * 7 };
    static float x[MOST], y[MOST];
    int n_optims;
    adze_params *p = trainer_params(a->t), *q = trainer_params(b->t);
    for (int i = 0; i < adze_params_count(p); i++) {
        adze_shape s = adze_params_shape(p, i);
        assert_true(adze_shape_count(&s) <= MOST);
        OK(adze_params_read(p, i, x));
        OK(adze_params_read(q, i, y));
        if (memcmp(x, y, (size_t)adze_shape_count(&s) * sizeof *x) != 0) fail_msg("%s differs", adze_params_name(p, i));
    }
    adze_optim *const *o = trainer_optimizers(a->t, &n_optims), *const *u = trainer_optimizers(b->t, &n_optims);
    for (int k = 0; k < n_optims; k++) {
        assert_int_equal(adze_optim_steps(o[k]), adze_optim_steps(u[k]));
        for (int j = 0; j < adze_optim_count(o[k]); j++) {
            adze_shape s = adze_params_shape(p, adze_optim_param(o[k], j));
            for (int m = 0; adze_optim_state_name(o[k], m); m++) {
                OK(adze_optim_state_read(o[k], m, j, x));
                OK(adze_optim_state_read(u[k], m, j, y));
                assert_memory_equal(x, y, (size_t)adze_shape_count(&s) * sizeof *x);
            }
        }
    }
}

/* ---- tests ---- */

static void replays_give_the_bits_of_single_calls(void **state)
{
    (void)state;
    static const struct {
        bool parts;
        trainer_cache_kind cache;
    } cases[] = { { false, CACHE_MEMORY }, { false, CACHE_OFF }, { true, CACHE_MEMORY } };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        enum { EPOCHS = 4 };
        job recorded, single;
        int rates = 0;
        begin(&recorded, cases[c].parts, false, cases[c].cache, EPOCHS);
        begin(&single, cases[c].parts, true, cases[c].cache, EPOCHS);
        OK(epochs(&recorded, 0, EPOCHS));
        OK(epochs(&single, 0, EPOCHS));
        assert_int_equal(recorded.n_steps, EPOCHS * PER_EPOCH);
        for (int64_t k = 0; k < recorded.n_steps; k++) {
            assert_true(isfinite(recorded.loss[k]) && recorded.grad_norm[k] > 0.0);
            assert_memory_equal(&recorded.loss[k], &single.loss[k], sizeof *recorded.loss);
            assert_memory_equal(&recorded.grad_norm[k], &single.grad_norm[k], sizeof *recorded.grad_norm);
            rates += k == 0 || recorded.lr[k] != recorded.lr[k - 1];
        }
        assert_true(rates > EPOCHS);
        same_state(&recorded, &single);
        end(&recorded);
        end(&single);
    }
}

/* Between two reports one step is queued and the one before it is looked at. */
static void a_step_is_one_graph_and_nothing_waits_in_it(void **state)
{
    (void)state;
    enum { EPOCHS = 4 };
    job j;
    begin(&j, false, false, CACHE_MEMORY, EPOCHS);
    OK(epochs(&j, 0, EPOCHS));
    for (int64_t k = PER_EPOCH + 1; k < j.n_steps; k++) {
        bool last = k % PER_EPOCH == PER_EPOCH - 1, first = k % PER_EPOCH == 0; /* an epoch ends with two reports and begins with two steps */
        cusim_calls a = j.calls[k - 1], b = j.calls[k];
        assert_int_equal(b.graph_launches - a.graph_launches, last ? 0 : first ? 2 : 1);
        assert_in_range(b.waits - a.waits, 0, 1); /* for the letter, if it is not there */
        if (first || last) continue;
        assert_int_equal(b.single - a.single, 2 * BATCH + 2); /* features of each picture: to a slot, to the plan; rates; the letter */
    }
    end(&j);

    /* Two runs a step, with an input of their own each. */
    begin(&j, true, false, CACHE_MEMORY, EPOCHS);
    seen.waited_inside = false;
    OK(epochs(&j, EPOCHS / 2, EPOCHS));
    for (int64_t k = (EPOCHS - 1) * PER_EPOCH + 1; k < j.n_steps - 1; k++) assert_int_equal(j.calls[k].graph_launches - j.calls[k - 1].graph_launches, 2);
    assert_false(seen.waited_inside);
    end(&j);

    /* Without the cache the frozen part is a graph of its own before it, and its values stay on the device. */
    begin(&j, false, false, CACHE_OFF, EPOCHS);
    OK(epochs(&j, 0, EPOCHS));
    for (int64_t k = PER_EPOCH + 1; k < PER_EPOCH + 3; k++) {
        assert_int_equal(j.calls[k].graph_launches - j.calls[k - 1].graph_launches, 2);
        assert_in_range(j.calls[k].waits - j.calls[k - 1].waits, 0, 1);
    }
    end(&j);
}

/* Steps that end an epoch have been looked at; the first of the next one is bad, and its successor is queued behind it. */
static void a_bad_loss_leaves_the_state_before_its_step(void **state)
{
    (void)state;
    job j, before;
    char step[8];
    setenv("ADZE_TINY_NAN", "1000", 1);
    begin(&before, false, false, CACHE_MEMORY, 2);
    OK(epochs(&before, 0, 1));
    snprintf(step, sizeof step, "%d", (int)PER_EPOCH);
    setenv("ADZE_TINY_NAN", step, 1);
    begin(&j, false, false, CACHE_MEMORY, 2);
    assert_int_equal(epochs(&j, 0, 2), ADZE_ENUMERIC);
    if (!strstr(adze_error_message(), "step 4: the loss is nan; first in ")) fail_msg("%s", adze_error_message());
    assert_true(trainer_between_steps(j.t));
    assert_int_equal(j.n_steps, PER_EPOCH);
    same_state(&j, &before);
    unsetenv("ADZE_TINY_NAN");
    end(&before);
    end(&j);
}

/* The head's output is h = w x with x near 1e36 and w near 1e-31: h h is finite, and its gradient h x is not. */
static void a_bad_gradient_is_named_and_changes_nothing(void **state)
{
    (void)state;
    job j, before;
    job *both[2] = { &j, &before };
    for (int i = 0; i < 2; i++) {
        begin(both[i], true, false, CACHE_MEMORY, 2);
        adze_params *p = trainer_params(both[i]->t);
        int out = adze_params_find(p, "student.out.weight"), head = adze_params_find(p, "head.weight");
        float w[256];
        for (int k = 0; k < 256; k++) w[k] = 1e36f;
        OK(adze_params_write(p, out, w));
        for (int k = 0; k < 64; k++) w[k] = 1e-33f;
        OK(adze_params_write(p, head, w));
    }
    assert_int_equal(epochs(&j, 1, 2), ADZE_ENUMERIC);
    assert_non_null(strstr(adze_error_message(), "the gradient of 'head.weight' is not finite"));
    assert_true(trainer_between_steps(j.t));
    same_state(&j, &before);
    end(&before);
    end(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replays_give_the_bits_of_single_calls),
        cmocka_unit_test(a_step_is_one_graph_and_nothing_waits_in_it),
        cmocka_unit_test(a_bad_loss_leaves_the_state_before_its_step),
        cmocka_unit_test(a_bad_gradient_is_named_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
