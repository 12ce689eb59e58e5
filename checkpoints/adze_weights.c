/* adze_weights.c - the program adze-weights: import, list and verify. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "checkpoints/hdf5_file.h"
#include "checkpoints/tensor_file.h"
#include "checkpoints/weights.h"
#include "core/file.h"
#include "core/memory.h"
#include "core/options.h"
#include "core/text.h"

static const adze_option table[] = {
    { .name = "as", .type = ADZE_OPTION_STRING, .metavar = "BACKBONE",
      .help = "import, verify: resnet18, resnet34, resnet50, wide_resnet50_2, efficientnet_lite0 or tf_efficientnet_b4", .group = "Weights" },
    { .name = "key", .type = ADZE_OPTION_STRING, .metavar = "PATH",
      .help = "import, verify: descend into this entry of a training checkpoint first, such as state_dict", .group = "Weights" },
    { .name = "prefix-strip", .type = ADZE_OPTION_STRING, .metavar = "PREFIX",
      .help = "import, verify: take only names with this prefix and remove it, such as module.", .group = "Weights" },
    { .name = "strict", .type = ADZE_OPTION_FLAG, .help = "refuse files that hold Python objects other than tensors and plain values",
      .group = "Weights" },
    { .name = "out", .letter = 'o', .type = ADZE_OPTION_STRING, .metavar = "OUT.h5", .help = "import: the file to write", .group = "Output" },
    { .name = "force", .type = ADZE_OPTION_FLAG, .help = "import: replace OUT.h5 if it is there", .group = "Output" },
    { .name = "json", .type = ADZE_OPTION_FLAG, .help = "list: one JSON object instead of text", .group = "Output" },
    { .name = "memory-limit", .type = ADZE_OPTION_SIZE, .metavar = "BYTES", .help = "stop rather than use more memory, such as 2G",
      .group = "General" },
    { .name = "help", .letter = 'h', .type = ADZE_OPTION_FLAG, .help = "this text", .group = "General", .properties = ADZE_OPTION_ACTION },
    { .name = "version", .type = ADZE_OPTION_FLAG, .help = "print the version", .group = "General", .properties = ADZE_OPTION_ACTION },
};

static const char usage[] = "adze-weights import FILE --as BACKBONE -o OUT.h5 [--key PATH]\n"
                            "                           [--prefix-strip PREFIX] [--strict] [--force]\n"
                            "       adze-weights list FILE [--json]\n"
                            "       adze-weights verify FILE [--as BACKBONE]";
static const char about[] =
    "Reads pretrained weights: torch.save files (.pth, new and old container), TorchScript archives, safetensors, .npy, .npz, and folders "
    "of .npy files, known by their content whatever their names. Nothing in a file is ever executed. import checks every name and shape "
    "against the backbone, lists all that is missing, unexpected or of another shape, and writes the HDF5 file that adze-train takes with "
    "--weights. list prints the tensors of any such file, or of an HDF5 file of adze. verify checks without writing: the whole file is "
    "read, its SHA-256 printed, and its tensors compared with the backbone; exit status 3 if something does not fit.";
static const char examples[] = "  adze-weights import resnet18-5c106cde.pth --as resnet18 -o resnet18.h5\n"
                               "  adze-weights import run.pth --key state_dict --prefix-strip module. \\\n"
                               "               --as resnet34 -o resnet34.h5\n"
                               "  adze-weights list model.safetensors | head";

/* A name from a file, safe for a terminal. */
static void print_name(const char *s)
{
    if (!*s) s = "(unnamed)";
    for (; *s; s++) putchar((unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s);
}

static json_t *name_json(const char *s)
{
    json_t *v = json_string(s);
    return v ? v : json_string("(not UTF-8)");
}

static json_t *shape_json(const adze_stored_tensor *t)
{
    json_t *shape = json_array();
    for (int d = 0; d < t->rank; d++) json_array_append_new(shape, json_integer(t->dim[d]));
    return shape;
}

static json_t *scalar_json(const adze_stored_scalar *v)
{
    switch (v->type) {
    case ADZE_SCALAR_INT: return json_integer(v->integer);
    case ADZE_SCALAR_BOOL: return json_boolean(v->integer);
    case ADZE_SCALAR_TEXT: return name_json(v->text);
    case ADZE_SCALAR_REAL: break;
    }
    json_t *real = json_real(v->real);
    return real ? real : json_null(); /* infinity and NaN are not JSON */
}

typedef struct {
    json_t *tensors; /* NULL: text */
} listing;

static void list_tensor(const listing *l, const adze_stored_tensor *t)
{
    char shape[ADZE_STORED_SHAPE_TEXT];
    if (l->tensors) {
        json_array_append_new(l->tensors, json_pack("{s:o,s:s,s:o,s:I}", "name", name_json(t->name), "dtype", adze_dtype_name(t->type),
                                                    "shape", shape_json(t), "bytes", (json_int_t)t->n_bytes));
        return;
    }
    print_name(t->name);
    printf("\t%s\t%s\n", adze_dtype_name(t->type), adze_stored_shape_text(t->rank, t->dim, shape));
}

/* Adds the list to the facts and prints them. */
static adze_status end_list(listing *l, json_t *facts)
{
    json_object_set_new(facts, "tensors", l->tensors);
    int bad = json_dumpf(facts, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(facts);
    if (bad) return adze_fail(ADZE_EIO, "cannot write the result");
    putchar('\n');
    return ADZE_OK;
}

static adze_status list_hdf5(const char *path, bool json)
{
    adze_status st = ADZE_OK;
    adze_h5 *h = NULL;
    const adze_h5_item *item;
    adze_h5_opts opts = ADZE_H5_OPTS;
    listing l = { json ? json_array() : NULL };
    opts.unsealed = true;
    TRY(adze_h5_open(&h, path, &opts));
    for (int64_t i = 0; (item = adze_h5_at(h, i)); i++) {
        if (item->kind != ADZE_H5_TENSOR) continue;
        adze_stored_tensor t = { .name = item->path, .type = item->type, .rank = item->rank, .count = item->count, .n_bytes = item->n_bytes };
        memcpy(t.dim, item->dim, sizeof t.dim);
        list_tensor(&l, &t);
    }
    if (json) st = end_list(&l, json_pack("{s:s,s:o}", "format", "hdf5", "path", name_json(path)));
    l.tensors = NULL;
done:
    json_decref(l.tensors);
    adze_h5_destroy(h);
    return st;
}

static adze_status read_file(const adze_options *o, const char *path, adze_tensor_file **f)
{
    adze_tensor_file_opts opts = ADZE_TENSOR_FILE_OPTS;
    opts.strict = adze_options_flag(o, "strict");
    adze_status st = adze_tensor_file_read(f, path, &opts);
    if (st == ADZE_OK && *adze_tensor_file_warnings(*f)) fprintf(stderr, "adze-weights: warning: %s", adze_tensor_file_warnings(*f));
    return st;
}

static adze_status run_list(const adze_options *o, const char *path)
{
    adze_status st = ADZE_OK;
    adze_tensor_file *f = NULL;
    bool json = adze_options_flag(o, "json");
    if (adze_h5_is_file(path)) return list_hdf5(path, json);
    TRY(read_file(o, path, &f));
    listing l = { json ? json_array() : NULL };
    for (int64_t i = 0; i < adze_tensor_file_count(f); i++) list_tensor(&l, adze_tensor_file_at(f, i));
    if (!json) goto done;
    json_t *scalars = json_object();
    for (int64_t i = 0; i < adze_tensor_file_scalar_count(f); i++) {
        const adze_stored_scalar *v = adze_tensor_file_scalar_at(f, i);
        json_object_set_new(scalars, v->name, scalar_json(v));
    }
    TRY(end_list(&l, json_pack("{s:s,s:o,s:s,s:o}", "format", adze_tensor_file_format(f), "path", name_json(path), "sha256",
                               adze_tensor_file_sha256(f), "values", scalars)));
done:
    adze_tensor_file_destroy(f);
    return st;
}

static adze_weights_select selection(const adze_options *o)
{
    return (adze_weights_select){ adze_options_string(o, "key"), adze_options_string(o, "prefix-strip") };
}

/* Prints every problem, suggests what the file may be, and fails. */
static adze_status complain(const adze_options *o, const adze_tensor_file *f, const char *path, const char *backbone,
                            const adze_weights_report *r)
{
    adze_weights_select select = selection(o);
    const char *fit = f ? adze_weights_guess(f, &select) : NULL;
    fputs(r->text.s ? r->text.s : "", stderr);
    if (r->n_matched == 0 && !fit)
        fprintf(stderr, "no name fits: is it a training checkpoint? `adze-weights list` shows the names, --key and --prefix-strip select\n");
    return adze_fail(ADZE_EINPUT, "%s: not weights of %s: %" PRId64 " tensors fit, %" PRId64 " missing, %" PRId64 " unexpected, %" PRId64
                     " of another shape or type%s%s",
                     path, backbone, r->n_matched, r->n_missing, r->n_unexpected, r->n_mismatched, fit ? "; it fits --as " : "", fit ? fit : "");
}

static adze_status run_import(const adze_options *o, const char *path)
{
    adze_status st = ADZE_OK;
    adze_tensor_file *f = NULL;
    adze_weights *w = NULL;
    adze_weights_report r = { .text = ADZE_TEXT_EMPTY };
    adze_weights_select select = selection(o);
    const char *backbone = adze_options_string(o, "as"), *out = adze_options_string(o, "out");
    REQUIRE(backbone, ADZE_EINVAL, "import: no backbone given (--as resnet18); `adze-weights verify %s` says which one fits", path);
    REQUIRE(out, ADZE_EINVAL, "import: no file to write given (-o OUT.h5)");
    REQUIRE(adze_options_flag(o, "force") || !adze_file_exists(out), ADZE_EINVAL, "%s is there already; --force replaces it", out);
    REQUIRE(!adze_h5_is_file(path), ADZE_EINPUT, "%s: an HDF5 file; adze's own weights need no import", path);
    TRY(read_file(o, path, &f));
    TRY(adze_weights_check(f, backbone, &select, &r));
    if (!adze_weights_fits(&r)) {
        st = complain(o, f, path, backbone, &r);
        goto done;
    }
    TRY(adze_weights_write(out, f, backbone, path, &select));
    TRY(adze_weights_open(&w, out));
    const adze_weights_info *info = adze_weights_get_info(w);
    printf("%s: %s, %" PRId64 " tensors%s\n", out, info->backbone, adze_weights_count(w), info->folded ? ", batch norm folded in" : "");
    printf("source         %s (%s)\nsha256         %s\ntag            %s\npreprocessing  %s\n", info->source, info->source_format, info->sha256,
           *info->tag ? info->tag : "unknown: not one of the published files", info->preprocessing);
done:
    adze_weights_close(w);
    adze_weights_report_destroy(&r);
    adze_tensor_file_destroy(f);
    return st;
}

static adze_status verify_hdf5(const adze_options *o, const char *path)
{
    adze_status st = ADZE_OK;
    adze_h5 *h = NULL;
    adze_weights *w = NULL;
    adze_weights_report r = { .text = ADZE_TEXT_EMPTY };
    const adze_h5_item *item;
    const char *backbone = adze_options_string(o, "as");
    int64_t n = 0;
    TRY(adze_weights_open(&w, path));
    const adze_weights_info *info = adze_weights_get_info(w);
    REQUIRE(!backbone || strcmp(backbone, info->backbone) == 0, ADZE_EINPUT, "%s: weights of %s, not of %s", path, info->backbone, backbone);
    TRY(adze_weights_check_self(w, &r));
    if (!adze_weights_fits(&r)) {
        st = complain(o, NULL, path, info->backbone, &r);
        goto done;
    }
    TRY(adze_h5_open(&h, path, NULL));
    for (int64_t i = 0; (item = adze_h5_at(h, i)); i++) {
        bool stored = false;
        if (item->kind == ADZE_H5_TENSOR) TRY(adze_h5_verify(h, item->path, &stored));
        n += stored;
    }
    printf("%s: sound; %s, %" PRId64 " tensors match, %" PRId64 " digests checked\nsource         %s\nsha256         %s\ntag            %s\n", path,
           info->backbone, r.n_matched, n, info->source, info->sha256, *info->tag ? info->tag : "unknown");
done:
    adze_h5_destroy(h);
    adze_weights_report_destroy(&r);
    adze_weights_close(w);
    return st;
}

static adze_status run_verify(const adze_options *o, const char *path)
{
    adze_status st = ADZE_OK;
    adze_tensor_file *f = NULL;
    adze_weights_report r = { .text = ADZE_TEXT_EMPTY };
    adze_weights_select select = selection(o);
    const char *backbone = adze_options_string(o, "as");
    if (adze_h5_is_file(path)) return verify_hdf5(o, path);
    TRY(read_file(o, path, &f));
    if (!backbone) backbone = adze_weights_guess(f, &select);
    if (backbone) TRY(adze_weights_check(f, backbone, &select, &r));
    if (backbone && !adze_weights_fits(&r)) {
        st = complain(o, f, path, backbone, &r);
        goto done;
    }
    const char *tag = adze_weights_tag(adze_tensor_file_sha256(f));
    printf("%s: sound %s, %" PRId64 " tensors\nsha256         %s\ntag            %s\n", path, adze_tensor_file_format(f),
           adze_tensor_file_count(f), adze_tensor_file_sha256(f), *tag ? tag : "unknown");
    if (backbone) printf("backbone       %s: %" PRId64 " tensors match%s\n", backbone, r.n_matched, r.folded ? ", batch norm folded in" : "");
    else printf("backbone       none of the known ones fits the whole file\n");
done:
    adze_weights_report_destroy(&r);
    adze_tensor_file_destroy(f);
    return st;
}

static adze_status run(const adze_options *o)
{
    static const struct {
        const char *name;
        adze_status (*run)(const adze_options *o, const char *path);
    } verbs[] = { { "import", run_import }, { "list", run_list }, { "verify", run_verify } };
    adze_status st = ADZE_OK;
    int nearest = 0;
    const char *word = adze_options_arg(o, 0);
    REQUIRE(adze_options_arg_count(o) > 0, ADZE_EINVAL, "no verb: want import, list or verify (--help shows the usage)");
    for (int i = 0; i < 3; i++) {
        if (adze_text_distance(word, verbs[i].name) < adze_text_distance(word, verbs[nearest].name)) nearest = i;
        if (strcmp(word, verbs[i].name) != 0) continue;
        REQUIRE(adze_options_arg_count(o) == 2, ADZE_EINVAL, "%s: no file given (adze-weights %s FILE)", word, word);
        return verbs[i].run(o, adze_options_arg(o, 1));
    }
    REQUIRE(false, ADZE_EINVAL, "unknown verb '%s', did you mean '%s'?", word, verbs[nearest].name);
done:
    return st;
}

int main(int argc, char **argv)
{
    adze_status st = ADZE_OK;
    adze_options *o = NULL;
    adze_text help = ADZE_TEXT_EMPTY;
    TRY(adze_options_create(&o));
    TRY(adze_options_add(o, table, sizeof table / sizeof *table));
    TRY(adze_options_parse(o, argc, argv, 2));
    adze_memory_limit_set(adze_options_size(o, "memory-limit"));
    if (adze_options_flag(o, "help")) {
        TRY(adze_options_help(o, usage, about, examples, &help));
        fputs(help.s, stdout);
    } else if (adze_options_flag(o, "version")) printf("adze-weights %s\n", ADZE_VERSION);
    else TRY(run(o));
done:
    if ((fflush(stdout) != 0 || ferror(stdout)) && (st == ADZE_OK || st == ADZE_EINPUT))
        st = adze_fail(ADZE_EIO, "cannot write to standard output");
    if (st != ADZE_OK) fprintf(stderr, "adze-weights: %s\n", adze_error_message());
    adze_text_destroy(&help);
    adze_options_destroy(o);
    return adze_status_exit_code(st);
}
