/* torch_collect.c - names and dense copies of the tensors in a pickle. Entry: torch_collect().
 * The walk keeps its own stack, so that nesting costs no C stack; a container that holds itself is entered once. */
#include <stdio.h>
#include <string.h>

#include "checkpoints/torch_impl.h"
#include "core/memory.h"

enum { MAX_DEPTH = 128, MAX_VISITS = 20000000 };

typedef struct {
    pickle_ref ref;
    uint32_t next;     /* item to enter next */
    size_t name_bytes; /* length of this container's own path */
} frame;

typedef struct {
    adze_tensor_file *f;
    pickle *p;
    torch_record record;
    void *user;
    adze_text name;
    frame stack[MAX_DEPTH];
    int depth;
    int64_t visits;
} walk;

size_t torch_storage_bytes(const pickle_storage *s)
{
    return (size_t)s->count * (s->type == PICKLE_UNTYPED ? 1 : adze_dtype_bytes((adze_dtype)s->type));
}

/* The last element must lie inside the storage's window. */
static adze_status check_bounds(const pickle_tensor *t, const pickle_storage *s, int64_t count, const char *shown)
{
    adze_status st = ADZE_OK;
    size_t size_bytes = adze_dtype_bytes(t->type);
    size_t unit = s->type == PICKLE_UNTYPED ? 1 : adze_dtype_bytes((adze_dtype)s->type);
    int64_t room = (int64_t)((size_t)s->view_count * unit / size_bytes), last = t->offset, step;
    if (count == 0) goto done;
    for (int d = 0; d < t->rank; d++)
        REFUSE_UNLESS(!__builtin_mul_overflow(t->dim[d] - 1, t->stride[d], &step) && !__builtin_add_overflow(last, step, &last),
                      "bounds", "the strides of tensor '%s' leave every storage", shown);
    REFUSE_UNLESS(last < room, "bounds", "tensor '%s' reaches element %lld of a storage of %lld", shown, (long long)last,
                  (long long)room);
done:
    return st;
}

static void copy_strided(const pickle_tensor *t, int64_t count, const unsigned char *from, unsigned char *to)
{
    size_t size_bytes = adze_dtype_bytes(t->type);
    int64_t index[ADZE_STORED_RANK] = { 0 }, at = t->offset, dense = 1;
    bool contiguous = true;
    for (int d = t->rank - 1; d >= 0; d--) {
        contiguous = contiguous && (t->dim[d] == 1 || t->stride[d] == dense);
        dense *= t->dim[d];
    }
    if (contiguous) {
        memcpy(to, from + (size_t)at * size_bytes, (size_t)count * size_bytes);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        memcpy(to + (size_t)i * size_bytes, from + (size_t)at * size_bytes, size_bytes);
        for (int d = t->rank - 1; d >= 0; d--) {
            if (++index[d] < t->dim[d]) {
                at += t->stride[d];
                break;
            }
            at -= t->stride[d] * (t->dim[d] - 1);
            index[d] = 0;
        }
    }
}

static adze_status add_tensor(walk *w, const pickle_tensor *t)
{
    adze_status st = ADZE_OK;
    pickle_storage *s = &w->p->storage[t->storage];
    const char *name = w->name.s ? w->name.s : "";
    char shown[SHOWN_NAME];
    unsigned char *to;
    int64_t count;
    size_t n_bytes;
    shown_name(name, w->name.n_bytes, shown);
    REFUSE_UNLESS(adze_stored_size(t->type, t->rank, t->dim, &count, &n_bytes), "overflow",
                  "the sizes of tensor '%s' do not fit in 63 bits", shown);
    TRY(check_bounds(t, s, count, shown));
    if (!s->data) TRY(w->record(w->user, s));
    TRY(tensor_file_add(w->f, name, w->name.n_bytes, t->type, t->rank, t->dim, &to));
    size_t unit = s->type == PICKLE_UNTYPED ? 1 : adze_dtype_bytes((adze_dtype)s->type);
    if (count > 0) copy_strided(t, count, s->data + (size_t)s->view_at * unit, to);
done:
    return st;
}

static adze_status add_value(walk *w, const pickle_value *v)
{
    adze_stored_scalar s = { .type = ADZE_SCALAR_INT };
    size_t text_bytes = 0;
    switch (v->kind) {
    case PICKLE_BOOL: s.type = ADZE_SCALAR_BOOL; s.integer = v->integer; break;
    case PICKLE_INT: s.integer = v->integer; break;
    case PICKLE_REAL: s.type = ADZE_SCALAR_REAL; s.real = v->real; break;
    case PICKLE_TEXT: s.type = ADZE_SCALAR_TEXT; s.text = (const char *)v->bytes; text_bytes = v->n; break;
    default: return ADZE_OK; /* None, bytes, classes, opaque objects */
    }
    return tensor_file_add_scalar(w->f, w->name.s ? w->name.s : "", w->name.n_bytes, &s, text_bytes);
}

/* Adds a leaf or opens a container; the name is set. */
static adze_status enter(walk *w, pickle_ref ref)
{
    adze_status st = ADZE_OK;
    pickle_value *v = &w->p->value[ref];
    REFUSE_UNLESS(++w->visits <= MAX_VISITS, "limit", "more than %d values below the root", MAX_VISITS);
    switch (v->kind) {
    case PICKLE_TENSOR: TRY(add_tensor(w, &w->p->tensor[v->integer])); break;
    case PICKLE_TUPLE:
    case PICKLE_LIST:
    case PICKLE_DICT:
    case PICKLE_RECORD:
        if (v->on_path) break; /* it holds itself */
        REFUSE_UNLESS(w->depth < MAX_DEPTH, "limit", "containers nested more than %d deep", MAX_DEPTH);
        v->on_path = true;
        w->stack[w->depth++] = (frame){ .ref = ref, .name_bytes = w->name.n_bytes };
        break;
    default: TRY(add_value(w, v));
    }
done:
    return st;
}

/* Cuts the name back to the container's and appends one component. */
static adze_status set_name(walk *w, size_t name_bytes, const void *part, size_t part_bytes)
{
    adze_status st = ADZE_OK;
    char shown[SHOWN_NAME];
    w->name.n_bytes = name_bytes;
    REFUSE_UNLESS(!memchr(part, 0, part_bytes), "unsafe_name", "a NUL inside the key '%s'",
                  shown_name(part, part_bytes, shown));
    REFUSE_UNLESS(name_bytes + part_bytes < TENSOR_FILE_MAX_NAME_BYTES, "limit", "a name of more than %d bytes",
                  TENSOR_FILE_MAX_NAME_BYTES);
    if (name_bytes > 0) adze_text_append_n(&w->name, ".", 1);
    adze_text_append_n(&w->name, part, part_bytes);
    TRY(adze_text_check(&w->name, "tensor names"));
done:
    return st;
}

static adze_status step(walk *w)
{
    adze_status st = ADZE_OK;
    frame *at = &w->stack[w->depth - 1];
    pickle_value *v = &w->p->value[at->ref];
    char digits[24];
    if (at->next >= v->n) {
        v->on_path = false;
        w->depth--;
        goto done;
    }
    uint32_t i = at->next;
    at->next += v->kind == PICKLE_DICT ? 2 : 1;
    if (v->kind == PICKLE_RECORD) { /* the state's entries are the object's attributes */
        w->name.n_bytes = at->name_bytes;
        TRY(enter(w, v->item[i]));
        goto done;
    }
    const pickle_value *key = v->kind == PICKLE_DICT ? &w->p->value[v->item[i]] : NULL;
    if (key && key->kind == PICKLE_TUPLE) goto done; /* no name: not reachable */
    if (key && key->kind == PICKLE_TEXT) TRY(set_name(w, at->name_bytes, key->bytes, key->n));
    else {
        int n = snprintf(digits, sizeof digits, "%lld", key ? (long long)key->integer : (long long)i);
        TRY(set_name(w, at->name_bytes, digits, (size_t)n));
    }
    TRY(enter(w, v->item[key ? i + 1 : i]));
done:
    return st;
}

adze_status torch_collect(adze_tensor_file *f, pickle *p, pickle_ref root, torch_record record, void *user)
{
    adze_status st = ADZE_OK;
    walk w = { .f = f, .p = p, .record = record, .user = user, .name = ADZE_TEXT_EMPTY };
    TRY(enter(&w, root));
    while (w.depth > 0) TRY(step(&w));
    if (p->n_opaque > 0)
        tensor_file_warn(f, "classes that are neither tensors nor plain values were skipped (%lld); --strict refuses them",
                         (long long)p->n_opaque);
done:
    adze_text_destroy(&w.name);
    return st;
}
