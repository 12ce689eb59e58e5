/* cusim_stream.c - work in order per stream, events between streams, captured graphs.
 * Nothing runs when it is queued (schedule random: perhaps). A synchronisation runs what it must wait for and no more, so
 * that a missing wait reads what is not there yet; what may run in any order runs in the schedule's. Copies read and write
 * the host's memory when their turn comes, not when they are queued. Capture follows CUDA's rules and our own: no
 * synchronisation, no allocation, no query inside. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cusim_impl.h"

/* The moment at which a record in a stream has been reached. */
typedef struct {
    int n_users;
    bool reached;
    struct timespec when;
    cudaStream_t stream;
} moment;

typedef enum { KERNEL, COPY, SET, HOST, LIBRARY, RELEASE, RECORD, WAIT, GRAPH } work_kind;

typedef struct {
    void *to;
    const void *from;
    size_t to_pitch, from_pitch, width, height;
    enum cudaMemcpyKind kind;
} copy_args;

/* One piece of work. Shared by a queue and by the graphs that hold it. */
typedef struct work {
    int n_users;
    work_kind kind;
    union {
        cusim_kernel_call kernel;
        copy_args copy;
        struct { void *p; int value; size_t n_bytes; } set;
        struct { cudaHostFn_t run; void *arg; } host;
        struct { const char *name; void (*run)(void *); } library;
        void *release;
        moment *moment; /* RECORD, WAIT */
        cudaGraphExec_t graph;
    } u;
    void *owned; /* arguments, or the copied source of a pageable copy */
} work;

typedef struct queued {
    struct queued *next;
    work *work;
} queued;

typedef struct {
    size_t *items; /* numbers of nodes */
    size_t n, capacity;
} node_set;

typedef struct {
    work *work;
    node_set after;
} node;

struct CUgraph_st {
    node *nodes; /* each behind those it comes after */
    size_t n, capacity;
};

struct CUgraphExec_st {
    int n_users;
    cudaGraph_t graph;
};

typedef struct capture {
    int n_users; /* streams and events in it */
    cudaStream_t origin;
    cudaStreamCaptureMode mode;
    pthread_t thread;
    bool invalid;
    cudaGraph_t graph;
} capture;

struct CUstream_st {
    cudaStream_t next;
    unsigned flags;
    int device;
    queued *first, **end;
    capture *capture;
    node_set last; /* in capture: what the next node comes after */
};

struct CUevent_st {
    int device;
    moment *moment; /* of the last record, NULL before the first */
    capture *capture; /* recorded in a capture: */
    node_set after;
};

static struct CUstream_st legacy = {.end = &legacy.first};
static cudaStream_t streams = &legacy; /* all of them */
static size_t n_captures;
static cusim_calls calls;
static __thread cudaError_t last_error;
static bool device_failed, in_host_function;
static uint64_t random_state = 1;
static pthread_mutex_t mutex;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void run_until(cudaStream_t s, const moment *m);

/* --- lock and errors --- */

static void make_mutex(void)
{
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&mutex, &a);
    pthread_mutexattr_destroy(&a);
}

void cusim_lock(void)
{
    pthread_once(&once, make_mutex);
    pthread_mutex_lock(&mutex);
    if (in_host_function) cusim_report("a function of cudaLaunchHostFunc calls the runtime");
}

void cusim_unlock(void) { pthread_mutex_unlock(&mutex); }

cudaError_t cusim_result(cudaError_t e)
{
    if (device_failed) e = cudaErrorAssert;
    if (e != cudaSuccess) last_error = e; /* "not ready", too: the next launch that asks would be blamed for it */
    return e;
}

cudaError_t cudaPeekAtLastError(void) { return device_failed ? cudaErrorAssert : last_error; }

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = cudaPeekAtLastError();
    last_error = cudaSuccess;
    return e;
}

void cusim_revive_device(void)
{
    device_failed = false;
    last_error = cudaSuccess;
}

cusim_calls cusim_calls_so_far(void) { return calls; }

static uint64_t pick(uint64_t n)
{
    random_state = random_state * 6364136223846793005u + (cusim_the_schedule.seed * 2 + 1);
    return (random_state >> 33) % n;
}

/* --- moments, sets, work --- */

static moment *moment_create(cudaStream_t s)
{
    moment *m = calloc(1, sizeof *m);
    if (m) *m = (moment){.n_users = 1, .stream = s};
    return m;
}

static moment *moment_keep(moment *m)
{
    m->n_users++;
    return m;
}

static void moment_drop(moment *m)
{
    if (m && --m->n_users == 0) free(m);
}

static bool set_add(node_set *s, size_t item)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->items[i] == item) return true;
    if (s->n == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 4;
        size_t *grown = realloc(s->items, capacity * sizeof *grown);
        if (!grown) return false;
        s->items = grown;
        s->capacity = capacity;
    }
    s->items[s->n++] = item;
    return true;
}

static bool set_add_all(node_set *s, const node_set *from)
{
    bool ok = true;
    for (size_t i = 0; i < from->n; i++) ok = set_add(s, from->items[i]) && ok;
    return ok;
}

static void set_clear(node_set *s)
{
    free(s->items);
    *s = (node_set){0};
}

static void exec_drop(cudaGraphExec_t e)
{
    if (--e->n_users > 0) return;
    cudaGraphDestroy(e->graph);
    free(e);
}

static void work_drop(work *w)
{
    if (--w->n_users > 0) return;
    if (w->kind == RECORD || w->kind == WAIT) moment_drop(w->u.moment);
    if (w->kind == GRAPH) exec_drop(w->u.graph);
    free(w->owned);
    free(w);
}

/* A piece of work with a copy of `n_bytes` at `owned`; NULL if there is no memory. */
static work *work_create(work_kind kind, const void *owned, size_t n_bytes)
{
    work *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    *w = (work){.n_users = 1, .kind = kind};
    if (owned && n_bytes > 0) {
        w->owned = malloc(n_bytes);
        if (!w->owned) {
            free(w);
            return NULL;
        }
        memcpy(w->owned, owned, n_bytes);
    }
    return w;
}

/* --- running --- */

static const char *side(bool device) { return device ? "device" : "host"; }

/* Whether the pointers lie where the kind of the copy says. */
static bool check_sides(const copy_args *c)
{
    if (c->kind == cudaMemcpyDefault) return true;
    bool to = c->kind == cudaMemcpyHostToDevice || c->kind == cudaMemcpyDeviceToDevice;
    bool from = c->kind == cudaMemcpyDeviceToHost || c->kind == cudaMemcpyDeviceToDevice;
    if (to == cusim_is_device(c->to) && from == cusim_is_device(c->from)) return true;
    cusim_report("copy from %s to %s memory: %p is %s memory, %p is %s memory", side(from), side(to), c->from,
                 side(cusim_is_device(c->from)), c->to, side(cusim_is_device(c->to)));
    return false;
}

static bool run_copy(const copy_args *c)
{
    bool to = cusim_is_device(c->to), from = cusim_is_device(c->from);
    for (size_t y = 0; y < c->height; y++) {
        char *t = (char *)c->to + y * c->to_pitch;
        const char *f = (const char *)c->from + y * c->from_pitch;
        if (to && from) {
            if (!cusim_copy_inside(t, f, c->width)) return false;
        } else if (to) {
            if (!cusim_check_write(t, c->width, "copy to the device")) return false;
            memcpy(t, f, c->width);
        } else {
            if (from && !cusim_check_read(f, c->width, "copy from the device")) return false;
            memmove(t, f, c->width);
        }
    }
    return true;
}

static bool run_work(work *w);

/* All nodes, each after those it comes after, else in the schedule's order. */
static bool run_graph(cudaGraph_t g)
{
    bool ok = true;
    unsigned char *done = calloc(g->n ? g->n : 1, 1);
    size_t *ready = malloc((g->n ? g->n : 1) * sizeof *ready);
    for (size_t n_done = 0; done && ready && ok && n_done < g->n; n_done++) {
        size_t n_ready = 0;
        for (size_t i = 0; i < g->n; i++) {
            bool can = !done[i];
            for (size_t k = 0; can && k < g->nodes[i].after.n; k++) can = done[g->nodes[i].after.items[k]];
            if (can) ready[n_ready++] = i;
            if (can && (cusim_the_schedule.order == CUSIM_FORWARD || cusim_the_schedule.order == CUSIM_WARPS)) break;
        }
        size_t next = cusim_the_schedule.order == CUSIM_REVERSE ? ready[n_ready - 1]
                      : cusim_the_schedule.order == CUSIM_RANDOM ? ready[pick(n_ready)] : ready[0];
        done[next] = 1;
        ok = run_work(g->nodes[next].work);
    }
    ok = ok && done && ready;
    free(done);
    free(ready);
    return ok;
}

static bool run_work(work *w)
{
    int64_t errors = cusim_error_count();
    switch (w->kind) {
    case KERNEL: return cusim_run_kernel(&w->u.kernel);
    case COPY: return run_copy(&w->u.copy);
    case SET:
        if (!cusim_check_write(w->u.set.p, w->u.set.n_bytes, "cudaMemset")) return false;
        memset(w->u.set.p, w->u.set.value, w->u.set.n_bytes);
        return true;
    case HOST:
        cusim_close_memory();
        in_host_function = true;
        w->u.host.run(w->u.host.arg);
        in_host_function = false;
        cusim_open_memory();
        return cusim_error_count() == errors;
    case LIBRARY:
        w->u.library.run(w->owned);
        return cusim_error_count() == errors;
    case RELEASE: return cusim_release(w->u.release);
    case RECORD:
        w->u.moment->reached = true;
        clock_gettime(CLOCK_MONOTONIC, &w->u.moment->when);
        return true;
    case WAIT:
        if (!w->u.moment->reached) run_until(w->u.moment->stream, w->u.moment);
        return true;
    case GRAPH: return run_graph(w->u.graph->graph);
    }
    return false;
}

static void run_first(cudaStream_t s)
{
    queued *q = s->first;
    s->first = q->next;
    if (!s->first) s->end = &s->first;
    if (device_failed) { /* nothing runs any more, but nobody waits for ever */
        if (q->work->kind == RECORD) q->work->u.moment->reached = true;
    } else {
        cusim_open_memory();
        if (!run_work(q->work)) device_failed = true;
        cusim_close_memory();
    }
    work_drop(q->work);
    free(q);
}

/* Runs the stream until the moment is reached, or all of it. */
static void run_until(cudaStream_t s, const moment *m)
{
    cusim_open_memory(); /* once for all */
    while (s->first && !(m && m->reached)) run_first(s);
    cusim_close_memory();
}

static size_t count_busy(void)
{
    size_t n = 0;
    for (cudaStream_t s = streams; s; s = s->next) n += s->first != NULL;
    return n;
}

void cusim_run_all(void)
{
    cusim_open_memory();
    for (size_t n; (n = count_busy()) > 0;) {
        size_t k = cusim_the_schedule.order == CUSIM_REVERSE ? n - 1 : cusim_the_schedule.order == CUSIM_RANDOM ? pick(n) : 0;
        cudaStream_t s = streams;
        for (;; s = s->next)
            if (s->first && k-- == 0) break;
        if (cusim_the_schedule.order == CUSIM_RANDOM) run_first(s);
        else run_until(s, NULL);
    }
    cusim_close_memory();
}

/* --- queueing --- */

static cudaStream_t resolve(cudaStream_t s) { return s == NULL || s == cudaStreamLegacy ? &legacy : s; }

/* The capture that forbids this thread what may not be captured, or NULL. */
static capture *forbidding(void)
{
    if (n_captures == 0) return NULL;
    for (cudaStream_t s = streams; s; s = s->next) {
        capture *c = s->capture;
        if (c && c->mode != cudaStreamCaptureModeRelaxed &&
            (c->mode == cudaStreamCaptureModeGlobal || pthread_equal(c->thread, pthread_self())))
            return c;
    }
    return NULL;
}

cudaError_t cusim_refuse_in_capture(const char *what)
{
    capture *c = forbidding();
    if (!c) return cudaSuccess;
    c->invalid = true;
    cusim_report("%s while a stream is captured", what);
    return cudaErrorStreamCaptureUnsupported;
}

bool cusim_spoil_capture(cudaStream_t stream)
{
    cusim_lock();
    capture *c = resolve(stream)->capture;
    if (c) c->invalid = true;
    cusim_unlock();
    return c != NULL;
}

static cudaError_t add_node(cudaStream_t s, work *w)
{
    capture *c = s->capture;
    cudaGraph_t g = c->graph;
    if (c->invalid) return cudaErrorStreamCaptureInvalidated;
    if (g->n == g->capacity) {
        size_t capacity = g->capacity ? 2 * g->capacity : 64;
        node *grown = realloc(g->nodes, capacity * sizeof *grown);
        if (!grown) return cudaErrorMemoryAllocation;
        g->nodes = grown;
        g->capacity = capacity;
    }
    w->n_users++;
    g->nodes[g->n] = (node){.work = w, .after = s->last};
    s->last = (node_set){0};
    return set_add(&s->last, g->n++) ? cudaSuccess : cudaErrorMemoryAllocation;
}

static cudaError_t append(cudaStream_t s, work *w)
{
    queued *q = malloc(sizeof *q);
    if (!q) return cudaErrorMemoryAllocation;
    w->n_users++;
    *q = (queued){.work = w};
    *s->end = q;
    s->end = &q->next;
    return cudaSuccess;
}

/* The legacy stream and the blocking ones wait for each other: `s` waits for all that `other` has. */
static cudaError_t wait_for(cudaStream_t s, cudaStream_t other)
{
    if (!other->first || other == s) return cudaSuccess;
    moment *m = moment_create(other);
    work *record = work_create(RECORD, NULL, 0), *wait = work_create(WAIT, NULL, 0);
    cudaError_t e = m && record && wait ? cudaSuccess : cudaErrorMemoryAllocation;
    if (record && m) record->u.moment = moment_keep(m);
    if (wait && m) wait->u.moment = moment_keep(m);
    if (e == cudaSuccess) e = append(other, record);
    if (e == cudaSuccess) e = append(s, wait);
    if (record) work_drop(record);
    if (wait) work_drop(wait);
    moment_drop(m);
    return e;
}

/* Whether this may be queued on a stream of another device than the thread's: copies, and what only concerns the stream itself. */
static bool any_device(work_kind kind) { return kind == COPY || kind == RECORD || kind == WAIT || kind == HOST; }

/* Queues the work, or adds it to the graph that the stream captures; drops it. */
static cudaError_t enqueue(cudaStream_t s, work *w)
{
    if (!w) return cudaErrorMemoryAllocation;
    cudaError_t e = cudaSuccess;
    const int current = cusim_use_device();
    if (s != &legacy && s->device != current && !any_device(w->kind)) {
        work_drop(w);
        return cudaErrorInvalidResourceHandle;
    }
    if (!s->capture) {
        calls.graph_launches += w->kind == GRAPH;
        calls.single += w->kind == KERNEL || w->kind == COPY || w->kind == SET || w->kind == LIBRARY;
    }
    if (s->capture) {
        e = add_node(s, w);
    } else if (s == &legacy && forbidding()) {
        cusim_refuse_in_capture("work on the default stream");
        e = cudaErrorStreamCaptureImplicit;
    } else {
        if (s == &legacy) {
            for (cudaStream_t o = streams; o && e == cudaSuccess; o = o->next)
                if (!(o->flags & cudaStreamNonBlocking)) e = wait_for(s, o);
        } else if (!(s->flags & cudaStreamNonBlocking)) {
            e = wait_for(s, &legacy);
        }
        if (e == cudaSuccess) e = append(s, w);
        if (cusim_the_schedule.order == CUSIM_RANDOM && pick(2) == 0)
            for (uint64_t n = pick(8); n > 0 && s->first; n--) run_first(s);
    }
    work_drop(w);
    return e;
}

cudaError_t cusim_launch_kernel(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                                cudaStream_t stream, void (*run)(const void *), const void *args, size_t args_bytes)
{
    cusim_lock();
    cudaError_t e = cusim_check_launch(name, kernel, grid, block, shared_bytes);
    if (e == cudaSuccess) {
        work *w = work_create(KERNEL, args, args_bytes);
        if (w)
            w->u.kernel = (cusim_kernel_call){.name = name, .kernel = kernel, .grid = grid, .block = block,
                                              .shared_bytes = shared_bytes, .run = run, .args = w->owned, .args_bytes = args_bytes};
        e = enqueue(resolve(stream), w);
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cusim_enqueue(cudaStream_t stream, const char *name, void (*run)(void *args), const void *args, size_t args_bytes)
{
    cusim_lock();
    work *w = work_create(LIBRARY, args, args_bytes);
    if (w) {
        w->u.library.name = name;
        w->u.library.run = run;
    }
    cudaError_t e = cusim_result(enqueue(resolve(stream), w));
    cusim_unlock();
    return e;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *arg)
{
    cusim_lock();
    work *w = work_create(HOST, NULL, 0);
    if (w) {
        w->u.host.run = fn;
        w->u.host.arg = arg;
    }
    cudaError_t e = cusim_result(enqueue(resolve(stream), w));
    cusim_unlock();
    return e;
}

/* `blocking`: cudaMemcpy. A pageable source is staged at once; a pageable target is waited for. */
static cudaError_t copy(const copy_args *c, bool blocking, cudaStream_t stream)
{
    cusim_lock();
    cudaStream_t s = resolve(stream);
    cudaError_t e = blocking ? cusim_refuse_in_capture("a blocking copy") : cudaSuccess;
    size_t to_bytes = c->height ? (c->height - 1) * c->to_pitch + c->width : 0;
    size_t from_bytes = c->height ? (c->height - 1) * c->from_pitch + c->width : 0;
    if (e == cudaSuccess && c->width > 0 && c->height > 0) {
        if (c->to_pitch < c->width || c->from_pitch < c->width) e = cudaErrorInvalidValue;
        else if (!check_sides(c)) e = cudaErrorInvalidValue;
        bool stage = e == cudaSuccess && !cusim_is_device(c->from) && !cusim_is_pinned(c->from, from_bytes);
        bool wait = blocking || (!cusim_is_device(c->to) && !cusim_is_pinned(c->to, to_bytes));
        if (e == cudaSuccess && s->capture && (stage || wait)) {
            cusim_refuse_in_capture("a copy from or to pageable memory");
            e = cudaErrorStreamCaptureUnsupported;
        }
        if (e == cudaSuccess) {
            work *w = work_create(COPY, stage ? c->from : NULL, stage ? from_bytes : 0);
            if (w) w->u.copy = *c;
            if (w && stage) w->u.copy.from = w->owned;
            e = enqueue(s, w);
            calls.waits += wait;
            if (e == cudaSuccess && wait) run_until(s, NULL);
        }
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                              enum cudaMemcpyKind kind, cudaStream_t stream)
{
    return copy(&(copy_args){to, from, to_pitch, from_pitch, width, height, kind}, false, stream);
}

cudaError_t cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                         enum cudaMemcpyKind kind)
{
    return copy(&(copy_args){to, from, to_pitch, from_pitch, width, height, kind}, true, NULL);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    return copy(&(copy_args){to, from, n_bytes, n_bytes, n_bytes, 1, kind}, false, stream);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t n_bytes, enum cudaMemcpyKind kind)
{
    return copy(&(copy_args){to, from, n_bytes, n_bytes, n_bytes, 1, kind}, true, NULL);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t n_bytes, cudaStream_t stream)
{
    cusim_lock();
    cudaError_t e = cudaSuccess;
    if (n_bytes > 0) {
        work *w = work_create(SET, NULL, 0);
        if (w) {
            w->u.set.p = p;
            w->u.set.value = value;
            w->u.set.n_bytes = n_bytes;
        }
        e = enqueue(resolve(stream), w);
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cudaMemset(void *p, int value, size_t n_bytes) { return cudaMemsetAsync(p, value, n_bytes, NULL); }

cudaError_t cudaFreeAsync(void *p, cudaStream_t stream)
{
    if (!p) return cudaSuccess;
    cusim_lock();
    cudaError_t e = cusim_refuse_in_capture("cudaFreeAsync");
    if (e == cudaSuccess) {
        work *w = work_create(RELEASE, NULL, 0);
        if (w) w->u.release = p;
        e = enqueue(resolve(stream), w);
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

/* --- streams --- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
    (void)priority;
    cusim_lock();
    cudaStream_t s = *stream = calloc(1, sizeof *s);
    if (s) {
        s->flags = flags;
        s->device = cusim_use_device();
        s->end = &s->first;
        s->next = streams->next;
        streams->next = s;
    }
    cudaError_t e = cusim_result(s ? cudaSuccess : cudaErrorMemoryAllocation);
    cusim_unlock();
    return e;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    return cudaStreamCreateWithPriority(stream, flags, 0);
}

static void capture_drop(capture *c)
{
    if (c && --c->n_users == 0) free(c);
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    cusim_lock();
    cudaError_t e = cudaSuccess;
    if (!s || s == cudaStreamLegacy) {
        e = cudaErrorInvalidResourceHandle;
    } else {
        run_until(s, NULL);
        for (cudaStream_t *at = &streams; *at; at = &(*at)->next)
            if (*at == s) {
                *at = s->next;
                break;
            }
        capture_drop(s->capture);
        set_clear(&s->last);
        free(s);
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    cusim_lock();
    calls.waits++;
    cudaStream_t s = resolve(stream);
    cudaError_t e = cusim_refuse_in_capture("cudaStreamSynchronize");
    if (e == cudaSuccess) run_until(s, NULL);
    if (e == cudaSuccess && s == &legacy)
        for (cudaStream_t o = streams; o; o = o->next)
            if (!(o->flags & cudaStreamNonBlocking)) run_until(o, NULL);
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

/* A caller that polls must see progress: each query runs one piece of work. */
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    cusim_lock();
    cudaStream_t s = resolve(stream);
    cudaError_t e = cusim_refuse_in_capture("cudaStreamQuery");
    if (e == cudaSuccess && s->first) {
        run_first(s);
        e = cudaErrorNotReady;
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cudaDeviceSynchronize(void)
{
    cusim_lock();
    calls.waits++;
    cudaError_t e = cusim_refuse_in_capture("cudaDeviceSynchronize");
    if (e == cudaSuccess) cusim_run_all();
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

/* --- events --- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    cusim_lock();
    *event = calloc(1, sizeof **event);
    if (*event) (*event)->device = cusim_use_device();
    cudaError_t e = cusim_result(*event ? cudaSuccess : cudaErrorMemoryAllocation);
    cusim_unlock();
    return e;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

static void forget_capture(cudaEvent_t v)
{
    capture_drop(v->capture);
    v->capture = NULL;
    set_clear(&v->after);
}

cudaError_t cudaEventDestroy(cudaEvent_t v)
{
    if (!v) return cudaErrorInvalidResourceHandle;
    cusim_lock();
    moment_drop(v->moment);
    forget_capture(v);
    free(v);
    cudaError_t e = cusim_result(cudaSuccess);
    cusim_unlock();
    return e;
}

cudaError_t cudaEventRecord(cudaEvent_t v, cudaStream_t stream)
{
    cusim_lock();
    cudaStream_t s = resolve(stream);
    cudaError_t e = cudaSuccess;
    forget_capture(v);
    if (v->device != (s == &legacy ? cusim_use_device() : s->device)) {
        e = cudaErrorInvalidResourceHandle;
    } else if (s->capture) {
        v->capture = s->capture;
        v->capture->n_users++;
        if (!set_add_all(&v->after, &s->last)) e = cudaErrorMemoryAllocation;
    } else {
        work *w = work_create(RECORD, NULL, 0);
        moment *m = w ? moment_create(s) : NULL;
        if (m) {
            w->u.moment = moment_keep(m);
            moment_drop(v->moment);
            v->moment = m;
        } else if (w) {
            work_drop(w);
            w = NULL;
        }
        e = enqueue(s, w);
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

static cudaError_t join_capture(cudaStream_t s, const struct CUevent_st *v)
{
    if (s->capture && s->capture != v->capture) {
        s->capture->invalid = v->capture->invalid = true;
        return cudaErrorStreamCaptureIsolation;
    }
    if (s == &legacy) return cudaErrorStreamCaptureImplicit;
    if (!s->capture) {
        s->capture = v->capture;
        s->capture->n_users++;
    }
    return set_add_all(&s->last, &v->after) ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t v, unsigned flags)
{
    (void)flags;
    cusim_lock();
    cudaStream_t s = resolve(stream);
    cudaError_t e = cudaSuccess;
    if (v->capture) {
        e = join_capture(s, v);
    } else if (s->capture) { /* recorded outside: the graph could not wait for it */
        s->capture->invalid = true;
        cusim_report("a captured stream waits for an event recorded outside the capture");
        e = cudaErrorStreamCaptureIsolation;
    } else if (v->moment && !v->moment->reached) {
        work *w = work_create(WAIT, NULL, 0);
        if (w) w->u.moment = moment_keep(v->moment);
        e = enqueue(s, w);
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cudaEventSynchronize(cudaEvent_t v)
{
    cusim_lock();
    calls.waits++;
    cudaError_t e = v->capture ? cudaErrorCapturedEvent : cusim_refuse_in_capture("cudaEventSynchronize");
    if (e == cudaSuccess && v->moment) run_until(v->moment->stream, v->moment);
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cudaEventQuery(cudaEvent_t v)
{
    cusim_lock();
    cudaError_t e = v->capture ? cudaErrorCapturedEvent : cusim_refuse_in_capture("cudaEventQuery");
    if (e == cudaSuccess && v->moment && !v->moment->reached) {
        run_first(v->moment->stream);
        e = v->moment->reached ? cudaSuccess : cudaErrorNotReady;
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    cusim_lock();
    cudaError_t e = cudaSuccess;
    if (!start->moment || !end->moment) e = cudaErrorInvalidResourceHandle;
    else if (!start->moment->reached || !end->moment->reached) e = cudaErrorNotReady;
    if (e == cudaSuccess)
        *ms = (float)((double)(end->moment->when.tv_sec - start->moment->when.tv_sec) * 1e3 +
                      (double)(end->moment->when.tv_nsec - start->moment->when.tv_nsec) * 1e-6);
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

/* --- graphs --- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    cusim_lock();
    cudaStream_t s = resolve(stream);
    cudaError_t e = cudaSuccess;
    if (s == &legacy) e = cudaErrorStreamCaptureUnsupported;
    else if (s->capture) e = cudaErrorInvalidValue;
    if (e == cudaSuccess) {
        capture *c = calloc(1, sizeof *c);
        cudaGraph_t g = calloc(1, sizeof *g);
        if (c && g) {
            *c = (capture){.n_users = 1, .origin = s, .mode = mode, .thread = pthread_self(), .graph = g};
            s->capture = c;
            n_captures++;
        } else {
            free(c);
            free(g);
            e = cudaErrorMemoryAllocation;
        }
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

/* Marks all nodes that come before those of the set. */
static void mark_before(cudaGraph_t g, const node_set *s, unsigned char *marked)
{
    for (size_t i = 0; i < s->n; i++) marked[s->items[i]] = 1;
    for (size_t i = g->n; i-- > 0;)
        for (size_t k = 0; marked[i] && k < g->nodes[i].after.n; k++) marked[g->nodes[i].after.items[k]] = 1;
}

/* The origin has waited for all that other streams captured. */
static bool all_joined(const capture *c)
{
    bool joined = true;
    unsigned char *marked = calloc(c->graph->n ? c->graph->n : 1, 1);
    if (!marked) return false;
    mark_before(c->graph, &c->origin->last, marked);
    for (size_t i = 0; i < c->graph->n; i++) joined = joined && marked[i];
    free(marked);
    return joined;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    cusim_lock();
    cudaStream_t s = resolve(stream);
    capture *c = s->capture;
    cudaError_t e = cudaSuccess;
    *graph = NULL;
    if (!c) e = cudaErrorInvalidValue;
    else if (c->origin != s) e = cudaErrorStreamCaptureUnmatched;
    else if (c->mode == cudaStreamCaptureModeThreadLocal && !pthread_equal(c->thread, pthread_self())) e = cudaErrorStreamCaptureWrongThread;
    if (e == cudaSuccess) {
        if (c->invalid) {
            e = cudaErrorStreamCaptureInvalidated;
        } else if (!all_joined(c)) {
            cusim_report("a capture ends before its stream has waited for the others");
            e = cudaErrorStreamCaptureUnjoined;
        }
        cudaGraph_t g = c->graph;
        c->invalid = true; /* for events that still remember it */
        c->n_users++;
        for (cudaStream_t o = streams; o; o = o->next)
            if (o->capture == c) {
                o->capture = NULL;
                set_clear(&o->last);
                capture_drop(c);
            }
        capture_drop(c);
        n_captures--;
        if (e == cudaSuccess) *graph = g;
        else cudaGraphDestroy(g);
    }
    e = cusim_result(e);
    cusim_unlock();
    return e;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    cusim_lock();
    capture *c = resolve(stream)->capture;
    *status = !c ? cudaStreamCaptureStatusNone : c->invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    cudaError_t e = cusim_result(cudaSuccess);
    cusim_unlock();
    return e;
}

/* The nodes are shared: instantiating copies the list. */
static cudaGraph_t graph_clone(cudaGraph_t from)
{
    cudaGraph_t g = calloc(1, sizeof *g);
    if (!g) return NULL;
    g->nodes = calloc(from->n ? from->n : 1, sizeof *g->nodes);
    bool ok = g->nodes != NULL;
    for (; ok && g->n < from->n; g->n++) {
        g->nodes[g->n].work = from->nodes[g->n].work;
        g->nodes[g->n].work->n_users++;
        ok = set_add_all(&g->nodes[g->n].after, &from->nodes[g->n].after);
    }
    if (ok) return g;
    cudaGraphDestroy(g);
    return NULL;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    if (!g) return cudaErrorInvalidValue;
    for (size_t i = 0; i < g->n; i++) {
        work_drop(g->nodes[i].work);
        set_clear(&g->nodes[i].after);
    }
    free(g->nodes);
    free(g);
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    cusim_lock();
    cudaGraphExec_t x = *exec = calloc(1, sizeof *x);
    if (x) {
        *x = (struct CUgraphExec_st){.n_users = 1, .graph = graph_clone(graph)};
        if (!x->graph) {
            free(x);
            *exec = NULL;
        }
    }
    cudaError_t e = cusim_result(*exec ? cudaSuccess : cudaErrorMemoryAllocation);
    cusim_unlock();
    return e;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    cusim_lock();
    work *w = work_create(GRAPH, NULL, 0);
    if (w) {
        w->u.graph = exec;
        exec->n_users++;
    }
    cudaError_t e = cusim_result(enqueue(resolve(stream), w));
    cusim_unlock();
    return e;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    (void)exec;
    (void)stream;
    return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    if (nodes) return cudaErrorNotSupported; /* nodes have no handles here */
    *count = graph->n;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    if (!exec) return cudaErrorInvalidValue;
    cusim_lock();
    exec_drop(exec);
    cusim_unlock();
    return cudaSuccess;
}
