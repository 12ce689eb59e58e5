/* pickle.c - the restricted pickle machine. Entry: pickle_run().
 *
 * A loop over a fixed list of opcodes; no recursion, every count bounded. GLOBAL only looks a name up in a table: names of
 * the system modules are refused, unknown ones become opaque. REDUCE knows a handful of constructions by heart. */
#include "checkpoints/pickle_impl.h"

#include <string.h>

#include "checkpoints/tensor_file_impl.h"
#include "core/memory.h"

enum {
    MAX_OPCODES = 100000000,
    MAX_VALUES = 20000000,
    MAX_STACK = 1000000,
    MAX_MARKS = 10000,
    MAX_MEMO = 10000000,
    MAX_STRING_BYTES = 1 << 20,
    MAX_LINE_BYTES = 4096
};

typedef enum {
    GLOBAL_DICT,
    GLOBAL_STORAGE, /* + the dtype, in `n` */
    GLOBAL_DTYPE,   /* + the dtype, in `n` */
    GLOBAL_REBUILD,
    GLOBAL_REBUILD_V2,
    GLOBAL_REBUILD_V3,
    GLOBAL_PARAMETER,      /* (tensor, ...) -> the tensor */
    GLOBAL_FIRST_ARGUMENT, /* (value, ...) -> the value */
    GLOBAL_FORGET,         /* harmless, nothing to keep */
    GLOBAL_RECORD          /* a class of TorchScript */
} global_kind;

typedef struct {
    const unsigned char *p, *end;
} input;

#define GROW_OR_FAIL(array, n, room, what)                                                                        \
    do {                                                                                                          \
        if ((n) == (room)) {                                                                                      \
            int64_t more_ = (room) ? 2 * (room) : 256;                                                            \
            void *grown_ = adze_realloc(array, (size_t)more_ * sizeof *(array));                                  \
            REQUIRE(grown_, ADZE_ENOMEM, "pickle: no memory for %lld " what, (long long)more_);                   \
            (array) = grown_;                                                                                     \
            (room) = more_;                                                                                       \
        }                                                                                                         \
    } while (0)

static adze_status push(pickle *p, pickle_ref v)
{
    adze_status st = ADZE_OK;
    REFUSE_UNLESS(p->n_stack < MAX_STACK, "limit", "more than %d values on the stack", MAX_STACK);
    GROW_OR_FAIL(p->stack, p->n_stack, p->stack_room, "stack entries");
    p->stack[p->n_stack++] = v;
done:
    return st;
}

/* Makes a value and pushes it. *v is valid until the next value is made. */
static adze_status push_new(pickle *p, pickle_kind kind, pickle_value **v)
{
    adze_status st = ADZE_OK;
    *v = NULL;
    REFUSE_UNLESS(p->n_values < MAX_VALUES, "limit", "more than %d values", MAX_VALUES);
    GROW_OR_FAIL(p->value, p->n_values, p->values_room, "values");
    *v = &p->value[p->n_values];
    **v = (pickle_value){ .kind = (uint8_t)kind };
    p->n_values++;
    TRY(push(p, (pickle_ref)(p->n_values - 1)));
done:
    return st;
}

static int64_t floor_of(const pickle *p) { return p->n_marks ? p->mark[p->n_marks - 1] : 0; }

static adze_status pop(pickle *p, pickle_ref *v)
{
    adze_status st = ADZE_OK;
    *v = 0;
    REFUSE_UNLESS(p->n_stack > floor_of(p), "bad_pickle", "the stack is empty");
    *v = p->stack[--p->n_stack];
done:
    return st;
}

static adze_status top(const pickle *p, pickle_ref *v)
{
    adze_status st = ADZE_OK;
    *v = 0;
    REFUSE_UNLESS(p->n_stack > floor_of(p), "bad_pickle", "the stack is empty");
    *v = p->stack[p->n_stack - 1];
done:
    return st;
}

static adze_status push_mark(pickle *p)
{
    adze_status st = ADZE_OK;
    REFUSE_UNLESS(p->n_marks < MAX_MARKS, "limit", "more than %d marks", MAX_MARKS);
    GROW_OR_FAIL(p->mark, p->n_marks, p->marks_room, "marks");
    p->mark[p->n_marks++] = (uint32_t)p->n_stack;
done:
    return st;
}

/* Values above the last mark: stack[*first .. *first + *n); the mark is removed, the values stay until the caller cuts. */
static adze_status pop_mark(pickle *p, int64_t *first, int64_t *n)
{
    adze_status st = ADZE_OK;
    *first = *n = 0;
    REFUSE_UNLESS(p->n_marks > 0, "bad_pickle", "no mark on the stack");
    *first = p->mark[--p->n_marks];
    *n = p->n_stack - *first;
done:
    return st;
}

static adze_status memo_put(pickle *p, uint64_t index)
{
    adze_status st = ADZE_OK;
    pickle_ref v;
    TRY(top(p, &v));
    REFUSE_UNLESS(index < MAX_MEMO, "limit", "memo entry %llu, the limit is %d", (unsigned long long)index, MAX_MEMO);
    if ((int64_t)index >= p->memo_room) {
        int64_t room = p->memo_room ? p->memo_room : 256;
        while (room <= (int64_t)index) room *= 2;
        pickle_ref *more = adze_realloc(p->memo, (size_t)room * sizeof *more);
        REQUIRE(more, ADZE_ENOMEM, "pickle: no memory for %lld memo entries", (long long)room);
        memset(more + p->memo_room, 0, (size_t)(room - p->memo_room) * sizeof *more);
        p->memo = more;
        p->memo_room = room;
    }
    if (!p->memo[index]) p->n_memo++;
    p->memo[index] = v + 1;
done:
    return st;
}

static adze_status memo_get(pickle *p, uint64_t index)
{
    adze_status st = ADZE_OK;
    REFUSE_UNLESS((int64_t)index < p->memo_room && p->memo[index], "bad_pickle", "memo entry %llu was never stored",
                  (unsigned long long)index);
    TRY(push(p, p->memo[index] - 1));
done:
    return st;
}

static adze_status need(const input *in, size_t n, const char *what)
{
    adze_status st = ADZE_OK;
    REFUSE_UNLESS((size_t)(in->end - in->p) >= n, "bad_pickle", "the pickle ends inside %s", what);
done:
    return st;
}

/* n bytes, checked against the limit, into a value on the stack. */
static adze_status push_bytes(pickle *p, input *in, uint64_t n, pickle_kind kind)
{
    adze_status st = ADZE_OK;
    pickle_value *v;
    TRY(need(in, (size_t)n, "a string"));
    REFUSE_UNLESS(n <= MAX_STRING_BYTES, "limit", "a string of %llu bytes, the limit is %d", (unsigned long long)n,
                  MAX_STRING_BYTES);
    REFUSE_UNLESS(kind != PICKLE_TEXT || utf8_valid(in->p, (size_t)n), "bad_pickle", "a text that is not UTF-8");
    TRY(push_new(p, kind, &v));
    v->bytes = in->p;
    v->n = (uint32_t)n;
    in->p += n;
done:
    return st;
}

static adze_status push_int(pickle *p, int64_t x)
{
    pickle_value *v;
    adze_status st = push_new(p, PICKLE_INT, &v);
    if (st == ADZE_OK) v->integer = x;
    return st;
}

static adze_status push_long(pickle *p, input *in)
{
    adze_status st = ADZE_OK;
    TRY(need(in, 1, "a number"));
    size_t n = *in->p++;
    TRY(need(in, n, "a number"));
    REFUSE_UNLESS(n <= 8, "limit", "a whole number of %zu bytes, at most 8 are read", n);
    uint64_t x = n > 0 && in->p[n - 1] & 0x80 ? ~UINT64_C(0) : 0;
    for (size_t i = n; i-- > 0;) x = x << 8 | in->p[i];
    in->p += n;
    TRY(push_int(p, (int64_t)x));
done:
    return st;
}

static adze_status push_real(pickle *p, input *in)
{
    adze_status st = ADZE_OK;
    pickle_value *v;
    uint64_t bits = 0;
    TRY(need(in, 8, "a number"));
    for (int i = 0; i < 8; i++) bits = bits << 8 | *in->p++;
    TRY(push_new(p, PICKLE_REAL, &v));
    memcpy(&v->real, &bits, sizeof bits);
done:
    return st;
}

/* The last n values of the stack become one tuple. */
static adze_status push_tuple(pickle *p, int64_t n)
{
    adze_status st = ADZE_OK;
    pickle_value *v;
    pickle_ref *item = NULL;
    REFUSE_UNLESS(p->n_stack - floor_of(p) >= n, "bad_pickle", "the stack is empty");
    if (n > 0) {
        REQUIRE(item = adze_malloc((size_t)n * sizeof *item), ADZE_ENOMEM, "pickle: no memory for a tuple of %lld", (long long)n);
        memcpy(item, p->stack + p->n_stack - n, (size_t)n * sizeof *item);
    }
    p->n_stack -= n;
    TRY(push_new(p, PICKLE_TUPLE, &v));
    v->item = item;
    v->n = v->room = (uint32_t)n;
    item = NULL;
done:
    adze_free(item);
    return st;
}

static adze_status append(pickle_value *v, const pickle_ref *from, int64_t n)
{
    adze_status st = ADZE_OK;
    uint64_t want = (uint64_t)v->n + (uint64_t)n;
    if (want > v->room) {
        uint64_t room = 2 * (uint64_t)v->room > want ? 2 * (uint64_t)v->room : want;
        REFUSE_UNLESS(room <= UINT32_MAX, "limit", "a list of %llu elements", (unsigned long long)want);
        pickle_ref *more = adze_realloc(v->room ? v->item : NULL, (size_t)room * sizeof *more);
        REQUIRE(more, ADZE_ENOMEM, "pickle: no memory for a list of %llu", (unsigned long long)want);
        v->item = more;
        v->room = (uint32_t)room;
    }
    if (n > 0) memcpy(v->item + v->n, from, (size_t)n * sizeof *from);
    v->n = (uint32_t)want;
done:
    return st;
}

/* stack[first .. first + n) into the container below them. */
static adze_status add_items(pickle *p, int64_t first, int64_t n, pickle_kind kind)
{
    adze_status st = ADZE_OK;
    p->n_stack = first;
    const pickle_ref *from = p->stack + first; /* stays readable: nothing is pushed meanwhile */
    pickle_ref target;
    TRY(top(p, &target));
    pickle_value *v = &p->value[target];
    if (v->kind == PICKLE_OPAQUE) goto done;
    REFUSE_UNLESS(v->kind == kind, "bad_pickle", "an element for something that is no %s",
                  kind == PICKLE_DICT ? "dict" : "list");
    if (kind == PICKLE_DICT) {
        REFUSE_UNLESS(n % 2 == 0, "bad_pickle", "a key without a value");
        for (int64_t i = 0; i < n; i += 2) {
            int k = p->value[from[i]].kind;
            REFUSE_UNLESS(k == PICKLE_TEXT || k == PICKLE_INT || k == PICKLE_TUPLE, "bad_pickle",
                          "a dict key that is no text and no whole number");
        }
    }
    TRY(append(v, from, n));
done:
    return st;
}

static bool equals(const unsigned char *s, size_t n, const char *want)
{
    return n == strlen(want) && memcmp(s, want, n) == 0;
}

static bool begins(const unsigned char *s, size_t n, const char *want)
{
    size_t m = strlen(want);
    return n >= m && memcmp(s, want, m) == 0;
}

static bool is_any(const unsigned char *s, size_t n, const char *const *names)
{
    for (; *names; names++)
        if (equals(s, n, *names)) return true;
    return false;
}

/* Modules whose functions reach the system, under their Python 2 names as well. */
static bool is_unsafe(const unsigned char *module, size_t m, const unsigned char *name, size_t n)
{
    static const char *const modules[] = { "os",     "posix", "nt",      "sys",       "subprocess", "commands", "pty",
                                           "shutil", "runpy", "socket",  "importlib", "ctypes",     "code",     "codeop",
                                           "pdb",    "bdb",   "timeit",  "webbrowser", "popen2",    NULL };
    static const char *const builtins[] = { "__builtin__", "builtins", "__builtins__", NULL };
    static const char *const functions[] = { "eval",    "exec",       "execfile", "compile", "getattr", "setattr",
                                             "delattr", "__import__", "open",     "file",    "input",   "globals",
                                             "locals",  "vars",       "apply",    "breakpoint", NULL };
    const unsigned char *dot = memchr(module, '.', m);
    size_t package = dot ? (size_t)(dot - module) : m;
    if (is_any(module, package, modules)) return true;
    return is_any(module, m, builtins) && is_any(name, n, functions);
}

static bool storage_type(const unsigned char *name, size_t n, int *type)
{
    static const struct {
        const char *name;
        int type;
    } known[] = {
        { "FloatStorage", ADZE_DTYPE_F32 },     { "DoubleStorage", ADZE_DTYPE_F64 }, { "HalfStorage", ADZE_DTYPE_F16 },
        { "BFloat16Storage", ADZE_DTYPE_BF16 }, { "LongStorage", ADZE_DTYPE_I64 },   { "IntStorage", ADZE_DTYPE_I32 },
        { "ShortStorage", ADZE_DTYPE_I16 },     { "CharStorage", ADZE_DTYPE_I8 },    { "ByteStorage", ADZE_DTYPE_U8 },
        { "BoolStorage", ADZE_DTYPE_BOOL },     { "UntypedStorage", PICKLE_UNTYPED },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!equals(name, n, known[i].name)) continue;
        *type = known[i].type;
        return true;
    }
    return false;
}

static bool dtype_object(const unsigned char *name, size_t n, int *type)
{
    static const struct {
        const char *name;
        int type;
    } known[] = {
        { "float32", ADZE_DTYPE_F32 }, { "float64", ADZE_DTYPE_F64 }, { "float16", ADZE_DTYPE_F16 }, { "half", ADZE_DTYPE_F16 },
        { "bfloat16", ADZE_DTYPE_BF16 }, { "int64", ADZE_DTYPE_I64 }, { "int32", ADZE_DTYPE_I32 },   { "int16", ADZE_DTYPE_I16 },
        { "int8", ADZE_DTYPE_I8 },     { "uint64", ADZE_DTYPE_U64 },  { "uint32", ADZE_DTYPE_U32 },  { "uint16", ADZE_DTYPE_U16 },
        { "uint8", ADZE_DTYPE_U8 },    { "bool", ADZE_DTYPE_BOOL },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!equals(name, n, known[i].name)) continue;
        *type = known[i].type;
        return true;
    }
    return false;
}

static adze_status push_global(pickle *p, const unsigned char *module, size_t m, const unsigned char *name, size_t n)
{
    static const struct {
        const char *module, *name;
        global_kind kind;
    } known[] = {
        { "collections", "OrderedDict", GLOBAL_DICT },
        { "torch._utils", "_rebuild_tensor", GLOBAL_REBUILD },
        { "torch._utils", "_rebuild_tensor_v2", GLOBAL_REBUILD_V2 },
        { "torch._utils", "_rebuild_tensor_v3", GLOBAL_REBUILD_V3 },
        { "torch._utils", "_rebuild_parameter", GLOBAL_PARAMETER },
        { "torch._utils", "_rebuild_parameter_with_state", GLOBAL_PARAMETER },
        { "torch.nn.parameter", "Parameter", GLOBAL_PARAMETER },
        { "torch", "Size", GLOBAL_FIRST_ARGUMENT },
        { "torch", "device", GLOBAL_FORGET },
        { "torch.serialization", "_get_layout", GLOBAL_FORGET },
        { "torch.jit._pickle", "build_intlist", GLOBAL_FIRST_ARGUMENT },
        { "torch.jit._pickle", "build_doublelist", GLOBAL_FIRST_ARGUMENT },
        { "torch.jit._pickle", "build_boollist", GLOBAL_FIRST_ARGUMENT },
        { "torch.jit._pickle", "build_tensorlist", GLOBAL_FIRST_ARGUMENT },
        { "torch.jit._pickle", "restore_type_tag", GLOBAL_FIRST_ARGUMENT },
    };
    static const char *const storages[] = { "torch", "torch.cuda", "torch.storage", NULL };
    adze_status st = ADZE_OK;
    char shown_module[SHOWN_NAME], shown[SHOWN_NAME];
    pickle_value *v;
    int kind = -1, type = 0;
    shown_name(module, m, shown_module);
    shown_name(name, n, shown);
    REFUSE_UNLESS(!is_unsafe(module, m, name, n), "unsafe_global",
                  "ALERT: the pickle names %s.%s; whoever made this file wanted to run code", shown_module, shown);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (equals(module, m, known[i].module) && equals(name, n, known[i].name)) kind = (int)known[i].kind;
    bool is_storage = n > 7 && memcmp(name + n - 7, "Storage", 7) == 0 && is_any(module, m, storages);
    if (is_storage) {
        REFUSE_UNLESS(storage_type(name, n, &type), "unsupported_type", "storages of the class %s.%s", shown_module, shown);
        kind = GLOBAL_STORAGE;
    }
    if (equals(module, m, "torch") && dtype_object(name, n, &type)) kind = GLOBAL_DTYPE;
    if (begins(module, m, "__torch__")) kind = GLOBAL_RECORD;
    REFUSE_UNLESS(kind >= 0 || !begins(name, n, "_rebuild") || !begins(module, m, "torch."), "unsupported_type",
                  "tensors rebuilt by %s.%s", shown_module, shown);
    REFUSE_UNLESS(kind >= 0 || !p->strict, "unsupported_type", "an object of the class %s.%s", shown_module, shown);
    if (kind < 0) p->n_opaque++;
    TRY(push_new(p, kind < 0 ? PICKLE_OPAQUE : PICKLE_GLOBAL, &v));
    v->integer = kind;
    v->n = (uint32_t)type;
done:
    return st;
}

static adze_status read_line(input *in, const unsigned char **s, size_t *n)
{
    adze_status st = ADZE_OK;
    size_t room = (size_t)(in->end - in->p) < MAX_LINE_BYTES ? (size_t)(in->end - in->p) : MAX_LINE_BYTES;
    const unsigned char *end = memchr(in->p, '\n', room);
    *s = NULL;
    *n = 0;
    REFUSE_UNLESS(end, "bad_pickle", "a name that does not end");
    *s = in->p;
    *n = (size_t)(end - in->p);
    in->p = end + 1;
done:
    return st;
}

static adze_status run_global(pickle *p, input *in)
{
    adze_status st = ADZE_OK;
    const unsigned char *module, *name;
    size_t m, n;
    TRY(read_line(in, &module, &m));
    TRY(read_line(in, &name, &n));
    TRY(push_global(p, module, m, name, n));
done:
    return st;
}

static adze_status run_stack_global(pickle *p)
{
    adze_status st = ADZE_OK;
    pickle_ref name, module;
    TRY(pop(p, &name));
    TRY(pop(p, &module));
    const pickle_value *n = &p->value[name], *m = &p->value[module];
    REFUSE_UNLESS(n->kind == PICKLE_TEXT && m->kind == PICKLE_TEXT, "bad_pickle", "a class name that is no text");
    TRY(push_global(p, m->bytes, m->n, n->bytes, n->n));
done:
    return st;
}

/* Whole numbers of a tuple or list. */
static adze_status read_sizes(const pickle *p, pickle_ref ref, int64_t to[ADZE_STORED_RANK], int *rank)
{
    adze_status st = ADZE_OK;
    const pickle_value *v = &p->value[ref];
    REFUSE_UNLESS(v->kind == PICKLE_TUPLE || v->kind == PICKLE_LIST, "bad_pickle", "sizes that are no tuple");
    REFUSE_UNLESS(v->n <= ADZE_STORED_RANK, "limit", "a tensor of rank %u, at most %d is read", v->n, ADZE_STORED_RANK);
    for (uint32_t i = 0; i < v->n; i++) {
        const pickle_value *x = &p->value[v->item[i]];
        REFUSE_UNLESS(x->kind == PICKLE_INT, "bad_pickle", "a size that is no whole number");
        REFUSE_UNLESS(x->integer >= 0, "bounds", "a size or stride of %lld", (long long)x->integer);
        to[i] = x->integer;
    }
    *rank = (int)v->n;
done:
    return st;
}

/* (storage, offset, size, stride[, requires_grad, hooks[, dtype][, metadata]]) */
static adze_status rebuild_tensor(pickle *p, global_kind kind, const pickle_value *args)
{
    adze_status st = ADZE_OK;
    pickle_value *v;
    pickle_tensor t = { .offset = 0 };
    int strides;
    uint32_t least = kind == GLOBAL_REBUILD ? 4 : kind == GLOBAL_REBUILD_V2 ? 6 : 7;
    uint32_t most = kind == GLOBAL_REBUILD ? 4 : least + 1;
    REFUSE_UNLESS(args->n >= least && args->n <= most, "bad_pickle", "a tensor built from %u arguments", args->n);
    const pickle_value *storage = &p->value[args->item[0]], *offset = &p->value[args->item[1]];
    REFUSE_UNLESS(storage->kind == PICKLE_STORAGE && offset->kind == PICKLE_INT, "bad_pickle",
                  "a tensor built from something that is no storage and offset");
    REFUSE_UNLESS(offset->integer >= 0, "bounds", "a tensor with the offset %lld", (long long)offset->integer);
    t.storage = (uint32_t)storage->integer;
    t.offset = offset->integer;
    TRY(read_sizes(p, args->item[2], t.dim, &t.rank));
    TRY(read_sizes(p, args->item[3], t.stride, &strides));
    REFUSE_UNLESS(strides == t.rank, "bounds", "a tensor with %d sizes and %d strides", t.rank, strides);
    int type = p->storage[t.storage].type;
    if (kind == GLOBAL_REBUILD_V3) {
        const pickle_value *d = &p->value[args->item[6]];
        REFUSE_UNLESS(d->kind != PICKLE_OPAQUE, "unsupported_type", "a tensor of an element type that is not known");
        REFUSE_UNLESS(d->kind == PICKLE_GLOBAL && d->integer == GLOBAL_DTYPE, "bad_pickle", "a tensor without an element type");
        type = (int)d->n;
    }
    t.type = type == PICKLE_UNTYPED ? ADZE_DTYPE_U8 : (adze_dtype)type;
    REFUSE_UNLESS(p->n_tensors < TENSOR_FILE_MAX_TENSORS, "limit", "more than %d tensors", TENSOR_FILE_MAX_TENSORS);
    GROW_OR_FAIL(p->tensor, p->n_tensors, p->tensors_room, "tensors");
    p->tensor[p->n_tensors++] = t;
    TRY(push_new(p, PICKLE_TENSOR, &v));
    v->integer = p->n_tensors - 1;
done:
    return st;
}

/* OrderedDict() or, from Python 2, OrderedDict([[key, value], ...]). */
static adze_status build_dict(pickle *p, const pickle_value *args)
{
    adze_status st = ADZE_OK;
    pickle_value *v;
    uint32_t n_args = args->n;
    pickle_ref pairs = n_args ? args->item[0] : 0;
    REFUSE_UNLESS(n_args <= 1, "bad_pickle", "a dict built from %u arguments", n_args);
    TRY(push_new(p, PICKLE_DICT, &v));
    if (n_args == 0) goto done;
    const pickle_value *list = &p->value[pairs];
    REFUSE_UNLESS(list->kind == PICKLE_LIST || list->kind == PICKLE_TUPLE, "bad_pickle", "a dict built from no list");
    for (uint32_t i = 0; i < list->n; i++) {
        const pickle_value *pair = &p->value[list->item[i]];
        REFUSE_UNLESS((pair->kind == PICKLE_LIST || pair->kind == PICKLE_TUPLE) && pair->n == 2, "bad_pickle",
                      "a dict built from something that is no pair");
        int k = p->value[pair->item[0]].kind;
        REFUSE_UNLESS(k == PICKLE_TEXT || k == PICKLE_INT || k == PICKLE_TUPLE, "bad_pickle",
                      "a dict key that is no text and no whole number");
        TRY(append(v, pair->item, 2));
    }
done:
    return st;
}

/* f(*args) for REDUCE, f.__new__(*args) for NEWOBJ. */
static adze_status run_call(pickle *p)
{
    adze_status st = ADZE_OK;
    pickle_ref args_ref, f_ref;
    pickle_value *v;
    TRY(pop(p, &args_ref));
    TRY(pop(p, &f_ref));
    const pickle_value *f = &p->value[f_ref], *args = &p->value[args_ref];
    REFUSE_UNLESS(f->kind == PICKLE_GLOBAL || f->kind == PICKLE_OPAQUE, "bad_pickle", "a call of something that is no class");
    if (f->kind == PICKLE_OPAQUE) {
        TRY(push(p, f_ref));
        goto done;
    }
    REFUSE_UNLESS(args->kind == PICKLE_TUPLE, "bad_pickle", "a call without a tuple of arguments");
    switch ((global_kind)f->integer) {
    case GLOBAL_DICT: TRY(build_dict(p, args)); break;
    case GLOBAL_REBUILD:
    case GLOBAL_REBUILD_V2:
    case GLOBAL_REBUILD_V3: TRY(rebuild_tensor(p, (global_kind)f->integer, args)); break;
    case GLOBAL_PARAMETER:
        REFUSE_UNLESS(args->n >= 1 && p->value[args->item[0]].kind == PICKLE_TENSOR, "bad_pickle", "a parameter without a tensor");
        TRY(push(p, args->item[0]));
        break;
    case GLOBAL_FIRST_ARGUMENT:
        REFUSE_UNLESS(args->n >= 1, "bad_pickle", "a list built from nothing");
        TRY(push(p, args->item[0]));
        break;
    case GLOBAL_RECORD: TRY(push_new(p, PICKLE_RECORD, &v)); break;
    case GLOBAL_FORGET: TRY(push_new(p, PICKLE_NONE, &v)); break;
    case GLOBAL_STORAGE:
    case GLOBAL_DTYPE: REFUSE_UNLESS(false, "bad_pickle", "a call of a type");
    }
done:
    return st;
}

static adze_status run_build(pickle *p)
{
    adze_status st = ADZE_OK;
    pickle_ref state, target;
    TRY(pop(p, &state));
    TRY(top(p, &target));
    pickle_value *v = &p->value[target];
    if (v->kind == PICKLE_RECORD) {
        v->n = 0;
        TRY(append(v, &state, 1));
        goto done;
    }
    REFUSE_UNLESS(v->kind == PICKLE_OPAQUE || v->kind == PICKLE_DICT || v->kind == PICKLE_TENSOR, "bad_pickle",
                  "attributes for a plain value");
done:
    return st;
}

/* ('storage', class, key, location, count[, view]) */
static adze_status run_persistent_id(pickle *p)
{
    adze_status st = ADZE_OK;
    pickle_ref ref;
    pickle_value *v;
    pickle_storage s = { .data = NULL };
    char shown[SHOWN_NAME];
    TRY(pop(p, &ref));
    const pickle_value *id = &p->value[ref];
    REFUSE_UNLESS(id->kind == PICKLE_TUPLE && id->n > 0, "bad_pickle", "a persistent id that is no tuple");
    const pickle_value *tag = &p->value[id->item[0]];
    bool text = tag->kind == PICKLE_TEXT;
    REFUSE_UNLESS(!text || !equals(tag->bytes, tag->n, "module"), "unsupported_type",
                  "a whole module with its source was saved; save its state_dict instead");
    REFUSE_UNLESS(text && equals(tag->bytes, tag->n, "storage") && id->n == (p->legacy ? 6u : 5u), "bad_pickle",
                  "a persistent id of %u elements that is no storage", id->n);
    const pickle_value *class = &p->value[id->item[1]], *key = &p->value[id->item[2]], *count = &p->value[id->item[4]];
    REFUSE_UNLESS(class->kind == PICKLE_GLOBAL && class->integer == GLOBAL_STORAGE, "bad_pickle",
                  "a persistent id without a storage class");
    REFUSE_UNLESS(key->kind == PICKLE_TEXT && count->kind == PICKLE_INT, "bad_pickle", "a persistent id without key and count");
    bool digits = key->n > 0;
    for (uint32_t i = 0; i < key->n; i++) digits = digits && key->bytes[i] >= '0' && key->bytes[i] <= '9';
    REFUSE_UNLESS(digits, "unsafe_name", "the storage key '%s' is no decimal number", shown_name(key->bytes, key->n, shown));
    s.key = key->bytes;
    s.key_bytes = key->n;
    s.type = (int)class->n;
    s.count = s.view_count = count->integer;
    int64_t bytes;
    size_t size_bytes = s.type == PICKLE_UNTYPED ? 1 : adze_dtype_bytes((adze_dtype)s.type);
    REFUSE_UNLESS(s.count >= 0 && !__builtin_mul_overflow(s.count, (int64_t)size_bytes, &bytes), "bounds",
                  "a storage of %lld elements", (long long)s.count);
    if (p->legacy && p->value[id->item[5]].kind != PICKLE_NONE) {
        const pickle_value *view = &p->value[id->item[5]];
        REFUSE_UNLESS(view->kind == PICKLE_TUPLE && view->n == 3 && p->value[view->item[1]].kind == PICKLE_INT &&
                          p->value[view->item[2]].kind == PICKLE_INT, "bad_pickle", "a storage window that is no triple");
        s.view_at = p->value[view->item[1]].integer;
        s.view_count = p->value[view->item[2]].integer;
        REFUSE_UNLESS(s.view_at >= 0 && s.view_count >= 0 && s.view_at <= s.count && s.view_count <= s.count - s.view_at,
                      "bounds", "a window of %lld elements from %lld in a storage of %lld", (long long)s.view_count,
                      (long long)s.view_at, (long long)s.count);
    }
    GROW_OR_FAIL(p->storage, p->n_storages, p->storages_room, "storages");
    p->storage[p->n_storages++] = s;
    TRY(push_new(p, PICKLE_STORAGE, &v));
    v->integer = p->n_storages - 1;
done:
    return st;
}

static adze_status run_items(pickle *p, pickle_kind kind, bool marked)
{
    adze_status st = ADZE_OK;
    int64_t first, n = kind == PICKLE_DICT ? 2 : 1;
    if (marked) TRY(pop_mark(p, &first, &n));
    else {
        REFUSE_UNLESS(p->n_stack - floor_of(p) >= n, "bad_pickle", "the stack is empty");
        first = p->n_stack - n;
    }
    TRY(add_items(p, first, n, kind));
done:
    return st;
}

static adze_status push_bool(pickle *p, bool x)
{
    pickle_value *v;
    adze_status st = push_new(p, PICKLE_BOOL, &v);
    if (st == ADZE_OK) v->integer = x;
    return st;
}

/* Reads `n` little-endian bytes of an operand. */
static adze_status operand(input *in, size_t n, uint64_t *x)
{
    adze_status st = ADZE_OK;
    *x = 0;
    TRY(need(in, n, "an operand"));
    for (size_t i = n; i-- > 0;) *x = *x << 8 | in->p[i];
    in->p += n;
done:
    return st;
}

static adze_status run_opcode(pickle *p, input *in, unsigned char op)
{
    adze_status st = ADZE_OK;
    pickle_value *v;
    uint64_t x;
    int64_t first, n;
    switch (op) {
    case 0x80: /* PROTO */
        TRY(operand(in, 1, &x));
        REFUSE_UNLESS(x <= 5, "bad_pickle", "pickle protocol %llu", (unsigned long long)x);
        break;
    case 0x95: TRY(operand(in, 8, &x)); break; /* FRAME: a hint only */
    case 'c': TRY(run_global(p, in)); break;
    case 0x93: TRY(run_stack_global(p)); break;
    case 'q': TRY(operand(in, 1, &x)); TRY(memo_put(p, x)); break;
    case 'r': TRY(operand(in, 4, &x)); TRY(memo_put(p, x)); break;
    case 0x94: TRY(memo_put(p, (uint64_t)p->n_memo)); break;
    case 'h': TRY(operand(in, 1, &x)); TRY(memo_get(p, x)); break;
    case 'j': TRY(operand(in, 4, &x)); TRY(memo_get(p, x)); break;
    case '(': TRY(push_mark(p)); break;
    case ')': TRY(push_tuple(p, 0)); break;
    case 0x85: TRY(push_tuple(p, 1)); break;
    case 0x86: TRY(push_tuple(p, 2)); break;
    case 0x87: TRY(push_tuple(p, 3)); break;
    case 't': TRY(pop_mark(p, &first, &n)); TRY(push_tuple(p, n)); break;
    case ']': TRY(push_new(p, PICKLE_LIST, &v)); break;
    case '}': TRY(push_new(p, PICKLE_DICT, &v)); break;
    case 0x8f: TRY(push_new(p, PICKLE_OPAQUE, &v)); break; /* EMPTY_SET */
    case 'X': TRY(operand(in, 4, &x)); TRY(push_bytes(p, in, x, PICKLE_TEXT)); break;
    case 0x8c: TRY(operand(in, 1, &x)); TRY(push_bytes(p, in, x, PICKLE_TEXT)); break;
    case 'U': TRY(operand(in, 1, &x)); TRY(push_bytes(p, in, x, PICKLE_TEXT)); break; /* a text of Python 2 */
    case 'C': TRY(operand(in, 1, &x)); TRY(push_bytes(p, in, x, PICKLE_BYTES)); break;
    case 'B': TRY(operand(in, 4, &x)); TRY(push_bytes(p, in, x, PICKLE_BYTES)); break;
    case 'K': TRY(operand(in, 1, &x)); TRY(push_int(p, (int64_t)x)); break;
    case 'M': TRY(operand(in, 2, &x)); TRY(push_int(p, (int64_t)x)); break;
    case 'J': TRY(operand(in, 4, &x)); TRY(push_int(p, (int32_t)(uint32_t)x)); break;
    case 0x8a: TRY(push_long(p, in)); break;
    case 'G': TRY(push_real(p, in)); break;
    case 'N': TRY(push_new(p, PICKLE_NONE, &v)); break;
    case 0x88: TRY(push_bool(p, true)); break;
    case 0x89: TRY(push_bool(p, false)); break;
    case 'Q': TRY(run_persistent_id(p)); break;
    case 'R':
    case 0x81: TRY(run_call(p)); break;
    case 'b': TRY(run_build(p)); break;
    case 's': TRY(run_items(p, PICKLE_DICT, false)); break;
    case 'u': TRY(run_items(p, PICKLE_DICT, true)); break;
    case 'a': TRY(run_items(p, PICKLE_LIST, false)); break;
    case 'e': TRY(run_items(p, PICKLE_LIST, true)); break;
    default: REFUSE_UNLESS(false, "bad_pickle", "opcode 0x%02x is not among those that are read", op);
    }
done:
    return st;
}

adze_status pickle_run(pickle *p, const unsigned char *data, size_t n_bytes, size_t *used_bytes, pickle_ref *root)
{
    adze_status st = ADZE_OK;
    input in = { data, data + n_bytes };
    p->n_stack = p->n_marks = p->n_memo = 0;
    if (p->memo_room) memset(p->memo, 0, (size_t)p->memo_room * sizeof *p->memo);
    for (int64_t n = 0;; n++) {
        REFUSE_UNLESS(n < MAX_OPCODES, "limit", "more than %d opcodes", MAX_OPCODES);
        REFUSE_UNLESS(in.p < in.end, "bad_pickle", "the pickle has no end");
        unsigned char op = *in.p++;
        if (op == '.') break;
        TRY(run_opcode(p, &in, op));
    }
    REFUSE_UNLESS(p->n_marks == 0, "bad_pickle", "the pickle ends inside a tuple");
    TRY(pop(p, root));
    *used_bytes = (size_t)(in.p - data);
done:
    return st;
}

void pickle_destroy(pickle *p)
{
    for (int64_t i = 0; i < p->n_values; i++) {
        pickle_value *v = &p->value[i];
        bool holds = v->kind == PICKLE_TUPLE || v->kind == PICKLE_LIST || v->kind == PICKLE_DICT || v->kind == PICKLE_RECORD;
        if (holds && v->room) adze_free(v->item);
    }
    adze_free(p->value);
    adze_free(p->storage);
    adze_free(p->tensor);
    adze_free(p->stack);
    adze_free(p->memo);
    adze_free(p->mark);
    *p = (pickle){ 0 };
}

const pickle_value *pickle_get(const pickle *p, const pickle_value *dict, const char *key)
{
    const pickle_value *found = NULL;
    if (dict->kind != PICKLE_DICT) return NULL;
    for (uint32_t i = 0; i + 1 < dict->n; i += 2) {
        const pickle_value *k = &p->value[dict->item[i]];
        if (k->kind == PICKLE_TEXT && equals(k->bytes, k->n, key)) found = &p->value[dict->item[i + 1]];
    }
    return found;
}
