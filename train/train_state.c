/* train_state.c - training checkpoints. Entry: adze_train_state_write(), adze_train_state_read().
 * Damage is found by the seal when the file is opened; reading then looks at every name and shape before it changes anything. */
#include "train/train_state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/hdf5_file.h"
#include "core/file.h"
#include "core/memory.h"
#include "train/config_compare.h"

static const char format[] = "adze-train-state";
enum { FORMAT_VERSION = 1 };

/* "DIR/train.h5" -> "DIR/train.prev.h5" */
static char *previous_path(const char *path)
{
    size_t n = strlen(path);
    bool h5 = n > 3 && strcmp(path + n - 3, ".h5") == 0;
    return adze_strprintf("%.*s.prev%s", (int)(h5 ? n - 3 : n), path, h5 ? ".h5" : "");
}

bool adze_train_state_exists(const char *path)
{
    char *previous = previous_path(path);
    bool found = adze_file_exists(path) || (previous && adze_file_exists(previous));
    adze_free(previous);
    return found;
}

static bool kept(const adze_train_state *s, int i) { return s->keep ? s->keep[i] : adze_params_trainable(s->params, i); }

/* Floats of the largest parameter. */
static int64_t largest(const adze_params *p)
{
    int64_t most = 1;
    for (int i = 0; i < adze_params_count(p); i++) {
        adze_shape shape = adze_params_shape(p, i);
        int64_t n = adze_shape_count(&shape);
        most = n > most ? n : most;
    }
    return most;
}

/* A path inside the file; freed by the caller. */
static adze_status join(char **out, const char *folder, const char *name)
{
    *out = NULL;
    if (!name[0] || strchr(name, '/')) return adze_fail(ADZE_EINVAL, "'%s' cannot be a name below %s", name, folder);
    *out = adze_strprintf("%s/%s", folder, name);
    return *out ? ADZE_OK : adze_fail(ADZE_ENOMEM, "no memory for the name of '%s'", name);
}

static adze_status optim_group(char **out, const adze_optim *o)
{
    const char *label = adze_optim_name(o);
    *out = adze_strprintf("/optimizer%s%s", label[0] ? "." : "", label);
    return *out ? ADZE_OK : adze_fail(ADZE_ENOMEM, "no memory for the name of an optimiser");
}

static adze_status term_path(char **out, const char *term)
{
    *out = adze_strprintf("/history/%s", term);
    if (!*out) return adze_fail(ADZE_ENOMEM, "no memory for the name of '%s'", term);
    for (char *p = *out + sizeof "/history"; *p; p++)
        if (*p == '/') *p = '.';
    return ADZE_OK;
}

/* ---- writing ---- */

static int64_t count_of(const adze_params *p, int i)
{
    adze_shape shape = adze_params_shape(p, i);
    return adze_shape_count(&shape);
}

int64_t adze_train_state_tensors(const adze_train_state *s)
{
    int64_t n = 0;
    for (int i = 0; i < adze_params_count(s->params); i++) n += kept(s, i);
    for (int k = 0; k < s->n_optims; k++)
        for (int m = 0; adze_optim_state_name(s->optim[k], m); m++) n += adze_optim_count(s->optim[k]);
    return n;
}

int64_t adze_train_state_floats(const adze_train_state *s)
{
    int64_t n = 0;
    for (int i = 0; i < adze_params_count(s->params); i++)
        if (kept(s, i)) n += count_of(s->params, i);
    for (int k = 0; k < s->n_optims; k++)
        for (int m = 0; adze_optim_state_name(s->optim[k], m); m++)
            for (int j = 0; j < adze_optim_count(s->optim[k]); j++) n += count_of(s->params, adze_optim_param(s->optim[k], j));
    return n;
}

adze_status adze_train_state_copy(const adze_train_state *s, float *numbers, int64_t *steps)
{
    adze_status st = ADZE_OK;
    for (int i = 0; i < adze_params_count(s->params); i++) {
        if (!kept(s, i)) continue;
        TRY(adze_params_read(s->params, i, numbers));
        numbers += count_of(s->params, i);
    }
    for (int k = 0; k < s->n_optims; k++) {
        const adze_optim *o = s->optim[k];
        steps[k] = adze_optim_steps(o);
        for (int m = 0; adze_optim_state_name(o, m); m++)
            for (int j = 0; j < adze_optim_count(o); j++) {
                TRY(adze_optim_state_read(o, m, j, numbers));
                numbers += count_of(s->params, adze_optim_param(o, j));
            }
    }
done:
    return st;
}

/* A file while it is written. Tensors come in the order of adze_train_state_copy(): from the copy, or one at a time. */
typedef struct {
    adze_h5 *h;
    const adze_train_state *s;
    const float *next; /* in the copy; NULL: there is none */
    float *x;          /* room for the largest tensor without a copy */
} writing;

/* "FOLDER/NAME" with the shape of parameter i. */
static adze_status write_tensor(writing *w, const char *folder, int i)
{
    adze_status st = ADZE_OK;
    char *path = NULL;
    adze_shape shape = adze_params_shape(w->s->params, i);
    TRY(join(&path, folder, adze_params_name(w->s->params, i)));
    TRY(adze_h5_write(w->h, path, ADZE_DTYPE_F32, shape.rank, shape.dim, w->next ? w->next : w->x));
    if (w->next) w->next += adze_shape_count(&shape);
done:
    adze_free(path);
    return st;
}

static adze_status write_optim(writing *w, int k)
{
    adze_status st = ADZE_OK;
    char *group = NULL, *folder = NULL;
    const adze_optim *o = w->s->optim[k];
    const adze_optim_opts *opts = adze_optim_options(o);
    const struct {
        const char *name;
        double value;
    } real[] = { { "beta1", opts->beta1 },       { "beta2", opts->beta2 },
                 { "eps", opts->eps },           { "momentum", opts->momentum },
                 { "clip", opts->clip },         { "weight_decay", opts->weight_decay } };
    TRY(optim_group(&group, o));
    TRY(adze_h5_group(w->h, group));
    TRY(adze_h5_set_string(w->h, group, "type", adze_optim_kind_name(opts->kind)));
    TRY(adze_h5_set_int(w->h, group, "step", w->next ? w->s->optim_steps[k] : adze_optim_steps(o)));
    for (size_t i = 0; i < sizeof real / sizeof *real; i++)
        TRY(adze_h5_set_reals(w->h, group, real[i].name, &real[i].value, 1));
    for (int m = 0; adze_optim_state_name(o, m); m++) {
        adze_free(folder);
        folder = NULL;
        TRY(join(&folder, group, adze_optim_state_name(o, m)));
        TRY(adze_h5_group(w->h, folder));
        for (int j = 0; j < adze_optim_count(o); j++) {
            if (!w->next) TRY(adze_optim_state_read(o, m, j, w->x));
            TRY(write_tensor(w, folder, adze_optim_param(o, j)));
        }
    }
done:
    adze_free(folder);
    adze_free(group);
    return st;
}

static adze_status write_numbers(adze_h5 *h, const adze_train_state *s)
{
    adze_status st = ADZE_OK;
    char *path = NULL;
    TRY(adze_h5_group(h, "/rng"));
    for (int k = 0; k < s->n_positions; k++) {
        TRY(join(&path, "/rng", s->position[k].name));
        TRY(adze_h5_write(h, path, ADZE_DTYPE_U64, 0, NULL, &s->position[k].value));
        adze_free(path);
        path = NULL;
    }
    TRY(adze_h5_group(h, "/history"));
    TRY(adze_h5_set_int(h, "/history", "epochs", s->n_epochs));
    for (int k = 0; k < s->n_terms; k++) {
        TRY(term_path(&path, s->term[k]));
        TRY(adze_h5_write(h, path, ADZE_DTYPE_F64, 1, &s->n_epochs, s->history + k * s->max_epochs));
        adze_free(path);
        path = NULL;
    }
    TRY(adze_h5_group(h, "/best"));
    TRY(adze_h5_set_reals(h, "/best", "value", &s->best, 1));
    TRY(adze_h5_set_int(h, "/best", "epoch", s->best_epoch));
done:
    adze_free(path);
    return st;
}

static adze_status write_all(adze_h5 *h, const adze_train_state *s)
{
    adze_status st = ADZE_OK;
    writing w = { .h = h, .s = s, .next = s->numbers };
    int64_t n = largest(s->params);
    if (!w.next) REQUIRE(w.x = adze_malloc((size_t)n * sizeof *w.x), ADZE_ENOMEM, "training state: %" PRId64 " floats", n);
    TRY(adze_h5_set_string(h, "/", "format", format));
    TRY(adze_h5_set_int(h, "/", "format_version", FORMAT_VERSION));
    TRY(adze_h5_set_string(h, "/", "engine_version", ADZE_VERSION));
    TRY(adze_h5_set_string(h, "/", "method", s->method));
    TRY(adze_h5_set_string(h, "/", "class", s->class_name));
    TRY(adze_h5_set_int(h, "/", "seed", (int64_t)s->seed));
    TRY(adze_h5_set_int(h, "/", "epoch", s->epoch));
    TRY(adze_h5_set_int(h, "/", "iteration", s->step));
    TRY(adze_h5_write_string(h, "/config", s->config_json));
    TRY(adze_h5_group(h, "/model"));
    for (int i = 0; i < adze_params_count(s->params); i++) {
        if (!kept(s, i)) continue;
        if (!w.next) TRY(adze_params_read(s->params, i, w.x));
        TRY(write_tensor(&w, "/model", i));
    }
    for (int k = 0; k < s->n_optims; k++) TRY(write_optim(&w, k));
    TRY(write_numbers(h, s));
done:
    adze_free(w.x);
    return st;
}

/* Gives the present file its second name, or on file systems without hard links its only one. */
static adze_status keep_previous(const char *path)
{
    adze_status st = ADZE_OK;
    char *tmp = NULL, *previous = previous_path(path);
    REQUIRE(previous, ADZE_ENOMEM, "%s: no memory for a name", path);
    if (!adze_file_exists(path)) goto done;
    TRY(adze_file_begin(previous, &tmp));
    unlink(tmp);
    bool linked = link(path, tmp) == 0;
    REQUIRE(rename(linked ? tmp : path, previous) == 0, ADZE_EIO, "%s: cannot be kept as %s: %s", path, previous, strerror(errno));
    unlink(tmp); /* rename leaves both names where they are one file already */
done:
    adze_free(tmp);
    adze_free(previous);
    return st;
}

adze_status adze_train_state_write(const adze_train_state *s, const char *path)
{
    adze_status st = ADZE_OK;
    adze_h5 *h = NULL;
    TRY(adze_config_check(s->config_json, ADZE_EINVAL, path));
    TRY(adze_h5_create(&h, path));
    TRY(write_all(h, s));
    TRY(keep_previous(path));
    TRY(adze_h5_commit(h));
done:
    adze_h5_destroy(h);
    return st;
}

/* ---- reading ---- */

/* Before a warning: they stand in lines. */
static const char *line_break(const adze_text *warnings) { return warnings->n_bytes ? "\n" : ""; }

static adze_status check_tensor(const adze_h5 *h, const adze_train_state *s, const char *file, const char *folder, int i)
{
    adze_status st = ADZE_OK;
    char *path = NULL;
    TRY(join(&path, folder, adze_params_name(s->params, i)));
    const adze_h5_item *item = adze_h5_find(h, path);
    adze_shape want = adze_params_shape(s->params, i);
    char text[ADZE_SHAPE_TEXT];
    bool same = item && item->kind == ADZE_H5_TENSOR && item->type == ADZE_DTYPE_F32 && item->rank == want.rank;
    for (int d = 0; same && d < want.rank; d++) same = item->dim[d] == want.dim[d];
    REQUIRE(same, ADZE_EINPUT, "%s: %s %s; the model wants float32 %s", file, item ? "another type or shape of" : "there is no", path,
            adze_shape_text(&want, text));
done:
    adze_free(path);
    return st;
}

static adze_status read_tensor(adze_h5 *h, const adze_train_state *s, const char *folder, int i, float *x)
{
    adze_status st = ADZE_OK;
    char *path = NULL;
    adze_shape shape = adze_params_shape(s->params, i);
    TRY(join(&path, folder, adze_params_name(s->params, i)));
    TRY(adze_h5_read(h, path, ADZE_DTYPE_F32, adze_shape_count(&shape), x));
done:
    adze_free(path);
    return st;
}

static adze_status check_model(const adze_h5 *h, const adze_train_state *s, const char *file)
{
    adze_status st = ADZE_OK;
    int64_t want = 0, have = 0;
    for (int i = 0; i < adze_params_count(s->params); i++) {
        if (!kept(s, i)) continue;
        want++;
        TRY(check_tensor(h, s, file, "/model", i));
    }
    for (int64_t k = 0; adze_h5_at(h, k); k++) have += strncmp(adze_h5_at(h, k)->path, "/model/", 7) == 0;
    REQUIRE(have == want, ADZE_EINPUT, "%s: %" PRId64 " parameters, the model has %" PRId64, file, have, want);
done:
    return st;
}

/* With `x` NULL checks, else reads. */
static adze_status visit_optim(adze_h5 *h, const adze_train_state *s, const char *file, adze_optim *o, float *x)
{
    adze_status st = ADZE_OK;
    char *group = NULL, *folder = NULL, *type = NULL;
    int64_t steps;
    const char *want = adze_optim_kind_name(adze_optim_options(o)->kind);
    TRY(optim_group(&group, o));
    const adze_h5_item *item = adze_h5_find(h, group);
    REQUIRE(item && item->kind == ADZE_H5_GROUP, ADZE_EINPUT, "%s: there is no %s", file, group);
    TRY(adze_h5_get_string(h, group, "type", &type));
    REQUIRE(strcmp(type, want) == 0, ADZE_EINPUT, "%s: %s is %s, this run uses %s", file, group, type, want);
    TRY(adze_h5_get_int(h, group, "step", &steps));
    REQUIRE(steps >= 0, ADZE_EINPUT, "%s: %s has done %" PRId64 " steps", file, group, steps);
    for (int m = 0; adze_optim_state_name(o, m); m++) {
        adze_free(folder);
        folder = NULL;
        TRY(join(&folder, group, adze_optim_state_name(o, m)));
        for (int j = 0; j < adze_optim_count(o); j++) {
            int i = adze_optim_param(o, j);
            if (!x) TRY(check_tensor(h, s, file, folder, i));
            else {
                TRY(read_tensor(h, s, folder, i, x));
                TRY(adze_optim_state_write(o, m, j, x));
            }
        }
    }
    if (x) adze_optim_set_steps(o, steps);
done:
    adze_free(type);
    adze_free(folder);
    adze_free(group);
    return st;
}

static adze_status expect_text(adze_h5 *h, const char *file, const char *attr, const char *want)
{
    adze_status st = ADZE_OK;
    char *got = NULL;
    TRY(adze_h5_get_string(h, "/", attr, &got));
    REQUIRE(strcmp(got, want) == 0, ADZE_EINPUT, "%s: its %s is '%s', want '%s'", file, attr, got, want);
done:
    adze_free(got);
    return st;
}

static adze_status check_config(adze_h5 *h, const char *config_json, const char *file, bool force, adze_text *warnings)
{
    adze_status st = ADZE_OK;
    char *text = NULL;
    adze_text list = ADZE_TEXT_EMPTY;
    TRY(adze_h5_read_string(h, "/config", &text));
    TRY(adze_config_compare(file, text, config_json, &list));
    REQUIRE(!list.s || force, ADZE_EINPUT, "%s: made with another configuration: %s (--force goes on all the same)", file, list.s);
    if (list.s) adze_text_printf(warnings, "%s%s: made with another configuration: %s", line_break(warnings), file, list.s);
done:
    adze_text_destroy(&list);
    adze_free(text);
    return st;
}

static bool has_tensor(const adze_h5 *h, const char *path, adze_dtype type, int rank, int64_t count)
{
    const adze_h5_item *item = adze_h5_find(h, path);
    return item && item->kind == ADZE_H5_TENSOR && item->type == type && item->rank == rank && item->count == count;
}

/* Positions, history and counters. With `commit` false checks, else reads. */
static adze_status visit_numbers(adze_h5 *h, adze_train_state *s, const char *file, bool commit)
{
    adze_status st = ADZE_OK;
    char *path = NULL;
    int64_t epochs, seed, epoch, step, best_epoch;
    double best;
    TRY(adze_h5_get_int(h, "/", "seed", &seed));
    TRY(adze_h5_get_int(h, "/", "epoch", &epoch));
    TRY(adze_h5_get_int(h, "/", "iteration", &step));
    TRY(adze_h5_get_int(h, "/history", "epochs", &epochs));
    TRY(adze_h5_get_reals(h, "/best", "value", &best, 1));
    TRY(adze_h5_get_int(h, "/best", "epoch", &best_epoch));
    REQUIRE(epoch >= 0 && step >= 0, ADZE_EINPUT, "%s: epoch %" PRId64 ", step %" PRId64, file, epoch, step);
    REQUIRE(epochs >= 0 && epochs <= s->max_epochs, ADZE_EINPUT, "%s: %" PRId64 " epochs are done, this run has %" PRId64, file,
            epochs, s->max_epochs);
    for (int k = 0; k < s->n_positions; k++) {
        TRY(join(&path, "/rng", s->position[k].name));
        REQUIRE(has_tensor(h, path, ADZE_DTYPE_U64, 0, 1), ADZE_EINPUT, "%s: there is no position %s", file, path);
        if (commit) TRY(adze_h5_read(h, path, ADZE_DTYPE_U64, 1, &s->position[k].value));
        adze_free(path);
        path = NULL;
    }
    for (int k = 0; k < s->n_terms; k++) {
        TRY(term_path(&path, s->term[k]));
        REQUIRE(has_tensor(h, path, ADZE_DTYPE_F64, 1, epochs), ADZE_EINPUT, "%s: there is no %s of %" PRId64 " epochs", file, path,
                epochs);
        if (commit && epochs > 0) TRY(adze_h5_read(h, path, ADZE_DTYPE_F64, epochs, s->history + k * s->max_epochs));
        adze_free(path);
        path = NULL;
    }
    if (commit) {
        s->seed = (uint64_t)seed, s->epoch = epoch, s->step = step;
        s->n_epochs = epochs, s->best = best, s->best_epoch = best_epoch;
    }
done:
    adze_free(path);
    return st;
}

/* What kind of file it is, and of which run. */
static adze_status check_head(adze_h5 *h, const adze_train_state *s, const char *file, bool force, adze_text *warnings)
{
    adze_status st = ADZE_OK;
    int64_t version;
    TRY(expect_text(h, file, "format", format));
    TRY(adze_h5_get_int(h, "/", "format_version", &version));
    REQUIRE(version == FORMAT_VERSION, ADZE_EINPUT, "%s: format version %" PRId64 ", this program reads %d", file, version,
            FORMAT_VERSION);
    TRY(expect_text(h, file, "method", s->method));
    TRY(expect_text(h, file, "class", s->class_name));
    TRY(check_config(h, s->config_json, file, force, warnings));
done:
    return st;
}

static adze_status read_all(adze_h5 *h, adze_train_state *s, const char *file, bool force, adze_text *warnings)
{
    adze_status st = ADZE_OK;
    float *x = NULL;
    int64_t n = largest(s->params);
    TRY(check_head(h, s, file, force, warnings));
    TRY(check_model(h, s, file));
    for (int k = 0; k < s->n_optims; k++) TRY(visit_optim(h, s, file, s->optim[k], NULL));
    TRY(visit_numbers(h, s, file, false));

    REQUIRE(x = adze_malloc((size_t)n * sizeof *x), ADZE_ENOMEM, "training state: %" PRId64 " floats", n);
    for (int i = 0; i < adze_params_count(s->params); i++) {
        if (!kept(s, i)) continue;
        TRY(read_tensor(h, s, "/model", i, x));
        TRY(adze_params_write(s->params, i, x));
    }
    for (int k = 0; k < s->n_optims; k++) TRY(visit_optim(h, s, file, s->optim[k], x));
    TRY(visit_numbers(h, s, file, true));
done:
    adze_free(x);
    return st;
}

/* The newest file that is whole; *used is its name, `path` or `previous`. */
static adze_status open_newest(adze_h5 **h, const char *path, const char *previous, const char **used, adze_text *warnings)
{
    adze_status st = adze_h5_open(h, path, NULL);
    *used = path;
    if (st != ADZE_EINPUT || !adze_file_exists(previous)) return st;
    adze_text_printf(warnings, "%s%s; going on from %s", line_break(warnings), adze_error_message(), previous);
    st = adze_h5_open(h, previous, NULL);
    *used = previous;
    return st == ADZE_EINPUT ? adze_fail_prefix(st, "%s and its predecessor cannot be read", path) : st;
}

adze_status adze_train_state_read(adze_train_state *s, const char *path, bool force, adze_text *warnings)
{
    adze_status st = ADZE_OK;
    adze_h5 *h = NULL;
    const char *used;
    char *previous = previous_path(path);
    REQUIRE(previous, ADZE_ENOMEM, "%s: no memory for a name", path);
    TRY(open_newest(&h, path, previous, &used, warnings));
    TRY(read_all(h, s, used, force, warnings));
    TRY(adze_text_check(warnings, "warnings"));
done:
    adze_h5_destroy(h);
    adze_free(previous);
    return st;
}

adze_status adze_train_state_look(const adze_train_state *s, const char *path, bool force, adze_text *warnings, int64_t *epoch)
{
    adze_status st = ADZE_OK;
    adze_h5 *h = NULL;
    const char *used;
    char *previous = previous_path(path);
    REQUIRE(previous, ADZE_ENOMEM, "%s: no memory for a name", path);
    TRY(open_newest(&h, path, previous, &used, warnings));
    TRY(check_head(h, s, used, force, warnings));
    TRY(adze_h5_get_int(h, "/", "epoch", epoch));
    TRY(adze_text_check(warnings, "warnings"));
done:
    adze_h5_destroy(h);
    adze_free(previous);
    return st;
}
