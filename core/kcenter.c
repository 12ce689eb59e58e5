/* kcenter.c - greedy k-center, lazily and in batches. Entry: adze_kcenter_select().
 *
 * A batch: theta = the C-th largest m; the rows with m >= theta (candidates) are brought up to date against the picks
 * that they have not seen, each until it falls below theta; the rest go into a heap, from which rows are picked as long
 * as the top is at least theta. In the heap, too, a row sees new picks only when it comes to the top. All rows outside
 * have a stale m, an upper bound, below theta: so the top of the heap, once up to date, is the argmax of the naive loop.
 * The order in which a row's minimum is taken changes nothing, hence the same bits. */
#include "core/kcenter.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <string.h>
#include <time.h>

#include "core/backend.h"
#include "core/cpu/score_tile.h"
#include "core/memory.h"

enum {
    PANEL = ADZE_SCORE_QUERIES,
    TILE = ADZE_SCORE_ROWS,
    MAX_D = 65536,
    LOOK_EVERY = 64 /* picks between two looks at the cancellation flag */
};

typedef struct {
    void *panel; /* 8 rows, packed */
    adze_score_hits hits;
    int64_t filtered, direct;
} worker;

typedef struct {
    const float *x;
    int64_t N, d, K;
    const adze_score_kernels *kernels;
    adze_score_type type;
    int threads;
    float *m;         /* (N) upper bound of the value; exact once seen == n_picks */
    int32_t *seen;    /* (N) picks that m takes into account */
    int32_t *list;    /* (N) candidates, later the heap */
    int32_t *ordered; /* (N) candidates by picks seen */
    int32_t *bins;    /* (max of 65536 and the tiles + 2) histograms */
    float *mean;      /* (d) */
    int64_t n_picks;
    bool exhausted; /* all m are 0 */
    int64_t *picks;
    void *tiles;                   /* picks packed */
    float *init, *norm, *residual; /* (tiles*48) per pick: -|p|^2/2, NB, rb */
    double A, slack;               /* error constants: of the product, of the direct distance */
    worker *workers;
    void *panels;
} kcenter;

int64_t adze_kcenter_count(double ratio, int64_t N)
{
    if (N <= 0 || !(ratio > 0.0)) return 0;
    int64_t K = (int64_t)floor(fmin(ratio, 1.0) * (double)N);
    return K < 1 ? 1 : K;
}

static int64_t tiles_of(int64_t K) { return (K + TILE - 1) / TILE; }

static size_t packed_bytes(const kcenter *s, int64_t columns)
{
    return adze_score_packed_bytes(s->type, s->d, columns);
}

static size_t bins_of(int64_t K)
{
    return tiles_of(K) + 2 > 65536 ? (size_t)tiles_of(K) + 2 : 65536;
}

size_t adze_kcenter_bytes(int64_t N, int64_t d, int64_t K)
{
    if (N < 1 || d < 1 || d > MAX_D || K < 0 || N > INT32_MAX || K > INT32_MAX) return SIZE_MAX;
    size_t padded = (size_t)tiles_of(K) * TILE;
    size_t each = sizeof(worker) + PANEL * (size_t)d * sizeof(float) + ADZE_MEMORY_ALIGN;
    return 16 * (size_t)N + padded * ((size_t)d + 3) * sizeof(float) + bins_of(K) * sizeof(int32_t) +
           (size_t)d * (sizeof(float) + 2 * sizeof(double)) + (size_t)adze_threads_resolve(0) * each;
}

size_t adze_kcenter_device_bytes(const adze_ctx *ctx, int64_t N, int64_t d, int64_t K, int64_t n_starts)
{
    const adze_backend *b = ctx->backend;
    return b->kcenter_bytes ? b->kcenter_bytes(ctx, N, d, K, n_starts) : 0;
}

static float distance(const kcenter *s, int64_t i, int64_t j)
{
    return sqrtf(s->kernels->distance2_f32(s->x + i * s->d, s->x + j * s->d, s->d));
}

/* ---- start --------------------------------------------------------------------------------------------------------- */

enum { STRIP = 64 }; /* columns that one thread sums at a time, in row order */

/* Column means in double; also refuses NaN, infinity and long rows. */
static adze_status mean_of_rows(kcenter *s, double *mean)
{
    int64_t strips = (s->d + STRIP - 1) / STRIP, unsound = -1;
#pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int64_t strip = 0; strip < strips; strip++) {
        double sum[STRIP] = { 0 };
        int64_t j0 = strip * STRIP, n = s->d - j0 < STRIP ? s->d - j0 : STRIP;
        for (int64_t i = 0; i < s->N; i++)
            for (int64_t j = 0; j < n; j++) sum[j] += (double)s->x[i * s->d + j0 + j];
        for (int64_t j = 0; j < n; j++) mean[j0 + j] = sum[j] / (double)s->N;
    }
#pragma omp parallel for num_threads(s->threads) schedule(static) reduction(max : unsound)
    for (int64_t i = 0; i < s->N; i++) {
        double norm2 = 0.0;
        for (int64_t j = 0; j < s->d; j++) norm2 += (double)s->x[i * s->d + j] * (double)s->x[i * s->d + j];
        if (!(norm2 <= 1e36)) unsound = i;
    }
    if (unsound >= 0)
        return adze_fail(ADZE_ENUMERIC, "kcenter: row %" PRId64 " holds NaN or infinity or is longer than 1e18", unsound);
    for (int64_t j = 0; j < s->d; j++) s->mean[j] = (float)mean[j];
    return ADZE_OK;
}

/* Row norms of the full distance matrix: sum_j |x_i - x_j|^2 = N |x_i - mean|^2 + sum_j |x_j - mean|^2. */
static void start_norm(kcenter *s, const double *mean, double *spread)
{
    double sum = 0.0;
#pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int64_t strip = 0; strip < (s->d + STRIP - 1) / STRIP; strip++) {
        double squares[STRIP] = { 0 };
        int64_t j0 = strip * STRIP, n = s->d - j0 < STRIP ? s->d - j0 : STRIP;
        for (int64_t i = 0; i < s->N; i++)
            for (int64_t j = 0; j < n; j++) {
                double c = (double)s->x[i * s->d + j0 + j] - mean[j0 + j];
                squares[j] += c * c;
            }
        memcpy(spread + j0, squares, (size_t)n * sizeof *squares);
    }
    for (int64_t j = 0; j < s->d; j++) sum += spread[j];
#pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int64_t i = 0; i < s->N; i++) {
        double norm2 = 0.0;
        for (int64_t j = 0; j < s->d; j++) {
            double c = (double)s->x[i * s->d + j] - mean[j];
            norm2 += c * c;
        }
        s->m[i] = (float)sqrt((double)s->N * norm2 + sum);
    }
}

static void start_mean(kcenter *s, const adze_kcenter_opts *o)
{
#pragma omp parallel for num_threads(s->threads) schedule(static)
    for (int64_t i = 0; i < s->N; i++) {
        double sum = 0.0;
        for (int64_t j = 0; j < o->n_starts; j++) sum += (double)distance(s, i, o->starts[j]);
        s->m[i] = (float)(sum / (double)o->n_starts);
    }
}

static adze_status start_values(kcenter *s, const adze_kcenter_opts *o)
{
    adze_status st = ADZE_OK;
    double *mean = NULL, *spread;
    size_t n_bytes = 2 * (size_t)s->d * sizeof *mean;
    REQUIRE(mean = adze_malloc(n_bytes), ADZE_ENOMEM, "kcenter: %zu host bytes for the mean", n_bytes);
    spread = mean + s->d;
    TRY(mean_of_rows(s, mean));
    if (o->init == ADZE_KCENTER_NORM) start_norm(s, mean, spread);
    else start_mean(s, o);
done:
    adze_free(mean);
    return st;
}

/* ---- bringing rows up to date ---------------------------------------------------------------------------------------- */

/* Appends row p to the picks and to the packed tiles. */
static void add_pick(kcenter *s, int64_t p)
{
    int64_t at = s->n_picks, tile = at / TILE, column = at % TILE;
    s->picks[s->n_picks++] = p;
    const float *x = s->x + p * s->d;
    double norm2 = 0.0, lost2 = 0.0;
    unsigned char *base = (unsigned char *)s->tiles + packed_bytes(s, tile * TILE);
    for (int64_t j = 0; j < s->d; j++) {
        double c = (double)x[j] - (double)s->mean[j], kept;
        if (s->type == ADZE_SCORE_BF16) {
            uint16_t h = adze_bf16_round((float)c);
            ((uint16_t *)base)[(j / 2 * TILE + column) * 2 + j % 2] = h;
            kept = (double)adze_bf16_value(h);
        } else {
            ((float *)base)[j * TILE + column] = (float)c;
            kept = (double)(float)c;
        }
        norm2 += c * c;
        lost2 += (c - kept) * (c - kept);
    }
    s->init[at] = (float)(-0.5 * norm2);
    s->residual[at] = (float)(sqrt(lost2) * (1.0 + 1e-6) + 0x1p-130);
    s->norm[at] = (float)(sqrt(norm2) * (1.0 + 1e-6)) + s->residual[at];
}

/* One row of a panel while it is brought up to date. */
typedef struct {
    int32_t row;
    bool open;
    double norm2;
    adze_score_margin margin;
    double half; /* (|x|^2 - m^2) / 2 with the slack of the direct distance: a score below half - e changes nothing */
} member;

static void tighten(const kcenter *s, member *r)
{
    double m = (double)s->m[r->row];
    r->half = 0.5 * (r->norm2 - m * m * (1.0 + s->slack) - 0x1p-100);
}

static float threshold(const member *r, float NB, float rb)
{
    double t = r->half - (double)adze_score_error(&r->margin, NB, rb);
    return (float)(t - fabs(t) * 0x1p-23);
}

/* The picks of one tile against a panel; rows that fall below theta are closed. */
static void update_tile(kcenter *s, worker *w, member *r, int n, int64_t tile, float theta)
{
    float NB = 0.0f, rb = 0.0f, t[PANEL];
    int64_t first = tile * TILE;
    int picks = s->n_picks - first < TILE ? (int)(s->n_picks - first) : TILE;
    for (int j = 0; j < picks; j++) {
        NB = s->norm[first + j] > NB ? s->norm[first + j] : NB;
        rb = s->residual[first + j] > rb ? s->residual[first + j] : rb;
    }
    for (int i = 0; i < PANEL; i++) {
        bool wanted = i < n && r[i].open && s->seen[r[i].row] < first + picks;
        t[i] = wanted ? threshold(&r[i], NB, rb) : INFINITY;
    }
    adze_score_operands o = { .panel = w->panel, .tile = (const unsigned char *)s->tiles + packed_bytes(s, first),
                              .init = s->init + first, .t = t, .D = s->d };
    s->kernels->tile[s->type](&o, &w->hits);
    uint64_t valid = ~UINT64_C(0) >> (64 - picks);
    for (unsigned any = w->hits.any; any; any &= any - 1) {
        int i = __builtin_ctz(any);
        int32_t row = r[i].row;
        for (uint64_t hit = w->hits.hit[i] & valid; hit; hit &= hit - 1) {
            int j = __builtin_ctzll(hit);
            if (first + j < s->seen[row] || w->hits.s[i][j] < t[i]) continue;
            float dist = distance(s, row, s->picks[first + j]);
            w->direct++;
            if (dist >= s->m[row]) continue;
            s->m[row] = dist;
            tighten(s, &r[i]);
            t[i] = threshold(&r[i], NB, rb);
        }
    }
    for (int i = 0; i < n; i++) {
        if (!r[i].open || s->seen[r[i].row] >= first + picks) continue;
        w->filtered += first + picks - s->seen[r[i].row];
        s->seen[r[i].row] = (int32_t)(first + picks);
        r[i].open = s->m[r[i].row] >= theta;
    }
}

static void update_panel(kcenter *s, worker *w, const int32_t *rows, int n, float theta)
{
    member r[PANEL];
    adze_packed_row info[PANEL];
    int64_t index[PANEL] = { 0 };
    int32_t oldest = INT32_MAX;
    for (int i = 0; i < n; i++) {
        index[i] = rows[i];
        if (s->seen[rows[i]] < oldest) oldest = s->seen[rows[i]];
    }
    if (oldest == s->n_picks) return;
    s->kernels->pack[s->type](s->x, index, n, s->d, s->mean, PANEL, w->panel, info);
    for (int i = 0; i < n; i++) {
        r[i] = (member){ .row = rows[i], .open = true, .norm2 = info[i].norm2,
                         .margin = adze_score_margin_of(&info[i], s->A) };
        tighten(s, &r[i]);
    }
    for (int64_t tile = oldest / TILE; tile < tiles_of(s->n_picks); tile++) {
        bool open = false;
        for (int i = 0; i < n; i++) open |= r[i].open;
        if (!open) break;
        update_tile(s, w, r, n, tile, theta);
    }
}

/* Brings rows list[0..n) up to date, each at least until it is below theta; those that have seen the same tiles stand
 * in the same panels. */
static void update_rows(kcenter *s, int64_t n, float theta)
{
    int64_t n_bins = tiles_of(s->n_picks) + 2;
    memset(s->bins, 0, (size_t)n_bins * sizeof *s->bins);
    for (int64_t c = 0; c < n; c++) s->bins[s->seen[s->list[c]] / TILE + 1]++;
    for (int64_t b = 1; b < n_bins; b++) s->bins[b] += s->bins[b - 1];
    for (int64_t c = 0; c < n; c++) s->ordered[s->bins[s->seen[s->list[c]] / TILE]++] = s->list[c];
    int64_t panels = (n + PANEL - 1) / PANEL;
#pragma omp parallel for num_threads(s->threads) schedule(dynamic, 4)
    for (int64_t p = 0; p < panels; p++) {
        int width = n - p * PANEL < PANEL ? (int)(n - p * PANEL) : PANEL;
        update_panel(s, &s->workers[omp_get_thread_num()], s->ordered + p * PANEL, width, theta);
    }
}

/* ---- picking --------------------------------------------------------------------------------------------------------- */

static uint32_t bits_of(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

/* The value of rank `want` from the top; m >= 0, so that its bits order as it does. */
static float value_of_rank(kcenter *s, int64_t want)
{
    memset(s->bins, 0, 65536 * sizeof *s->bins);
    for (int64_t i = 0; i < s->N; i++) s->bins[bits_of(s->m[i]) >> 16]++;
    int64_t above = 0;
    uint32_t high = 65535;
    while (above + s->bins[high] < want && high > 0) above += s->bins[high--];
    memset(s->bins, 0, 65536 * sizeof *s->bins);
    for (int64_t i = 0; i < s->N; i++)
        if (bits_of(s->m[i]) >> 16 == high) s->bins[bits_of(s->m[i]) & 65535]++;
    uint32_t low = 65535;
    while (above + s->bins[low] < want && low > 0) above += s->bins[low--];
    uint32_t u = high << 16 | low;
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}

static bool before(const kcenter *s, int32_t a, int32_t b)
{
    return s->m[a] > s->m[b] || (s->m[a] == s->m[b] && a < b);
}

static void sift_down(const kcenter *s, int32_t *heap, int64_t n, int64_t at)
{
    int32_t row = heap[at];
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= n) break;
        if (child + 1 < n && before(s, heap[child + 1], heap[child])) child++;
        if (!before(s, heap[child], row)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = row;
}

static int64_t open_heap(kcenter *s, int64_t n, float theta)
{
    int64_t left = 0;
    for (int64_t c = 0; c < n; c++)
        if (s->m[s->list[c]] >= theta) s->list[left++] = s->list[c];
    for (int64_t at = left / 2 - 1; at >= 0; at--) sift_down(s, s->list, left, at);
    return left;
}

typedef struct {
    const adze_kcenter_opts *o;
    double last_call;
} watch;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Cancelled, or told so by the progress function. */
static bool stopped(watch *w, int64_t done, int64_t total)
{
    if (w->o->cancel && *w->o->cancel) return true;
    if (!w->o->progress) return false;
    double now = seconds();
    if (now - w->last_call < 0.1 && done < total) return false;
    w->last_call = now;
    return !w->o->progress(w->o->progress_arg, done, total);
}

/* Picks from the heap of n rows while its top is at least theta. */
static adze_status pick_from_heap(kcenter *s, int64_t n, float theta, watch *look)
{
    int32_t *heap = s->list;
    while (n > 0 && s->n_picks < s->K && s->m[heap[0]] >= theta) {
        int32_t row = heap[0];
        float next = theta; /* while the row is at least this it may be the argmax */
        if (n > 1) next = fmaxf(next, s->m[heap[1]]);
        if (n > 2) next = fmaxf(next, s->m[heap[2]]);
        while (s->seen[row] < s->n_picks && s->m[row] >= next) {
            float dist = distance(s, row, s->picks[s->seen[row]++]);
            s->workers[0].direct++;
            if (dist < s->m[row]) s->m[row] = dist;
        }
        sift_down(s, heap, n, 0);
        if (heap[0] == row && s->seen[row] == s->n_picks && s->m[row] >= theta) {
            s->exhausted = s->m[row] == 0.0f; /* then theta is 0, all rows are here, and this is row 0 */
            if (s->exhausted) break;
            add_pick(s, row);
            s->m[row] = 0.0f; /* its distance to itself */
            s->seen[row] = (int32_t)s->n_picks;
            if (theta > 0.0f) heap[0] = heap[--n];
            if (n > 0) sift_down(s, heap, n, 0);
            if (s->n_picks % LOOK_EVERY == 0 && stopped(look, s->n_picks, s->K))
                return adze_fail(ADZE_EINTERRUPTED, "kcenter: stopped after %" PRId64 " of %" PRId64 " picks", s->n_picks,
                                 s->K);
        } else if (s->m[heap[0]] < theta) {
            break;
        }
    }
    return ADZE_OK;
}

static int64_t batch_rows(int64_t N)
{
    int64_t C = N / 64;
    return C < 512 ? (N < 512 ? N : 512) : C;
}

static adze_status select_all(kcenter *s, const adze_kcenter_opts *o, adze_kcenter_stats *stats)
{
    adze_status st = ADZE_OK;
    watch look = { .o = o, .last_call = seconds() };
    while (s->n_picks < s->K && !s->exhausted) {
        float theta = value_of_rank(s, batch_rows(s->N));
        int64_t n = 0;
        for (int64_t i = 0; i < s->N; i++)
            if (s->m[i] >= theta) s->list[n++] = (int32_t)i;
        update_rows(s, n, theta);
        n = open_heap(s, n, theta);
        TRY(pick_from_heap(s, n, theta, &look));
        stats->batches++;
        if (stopped(&look, s->n_picks, s->K))
            TRY(adze_fail(ADZE_EINTERRUPTED, "kcenter: stopped after %" PRId64 " of %" PRId64 " picks", s->n_picks, s->K));
    }
done:
    return st;
}

static adze_status check_options(int64_t N, int64_t d, int64_t K, const adze_kcenter_opts *o)
{
    adze_status st = ADZE_OK;
    REQUIRE(N >= 1 && N <= INT32_MAX && d >= 1 && d <= MAX_D && K >= 0 && K <= INT32_MAX, ADZE_EINVAL,
            "kcenter: N=%" PRId64 " d=%" PRId64 " K=%" PRId64 ", want 1 <= N < 2^31, 1 <= d <= %d, 0 <= K < 2^31", N, d, K,
            MAX_D);
    REQUIRE(o->init >= ADZE_KCENTER_MEAN && o->init <= ADZE_KCENTER_FIRST, ADZE_EINVAL, "kcenter: start %d is none",
            (int)o->init);
    int64_t least = o->init == ADZE_KCENTER_NORM ? 0 : 1, most = o->init == ADZE_KCENTER_MEAN ? N : least;
    REQUIRE(o->n_starts >= least && o->n_starts <= most, ADZE_EINVAL,
            "kcenter: %" PRId64 " starts, want %" PRId64 " to %" PRId64, o->n_starts, least, most);
    for (int64_t i = 0; i < o->n_starts; i++)
        REQUIRE(o->starts[i] >= 0 && o->starts[i] < N, ADZE_EINVAL, "kcenter: start %" PRId64 " of %" PRId64 " rows",
                o->starts[i], N);
done:
    return st;
}

/* Everything that grows with the problem; what was allocated before a failure is freed by the caller. */
static adze_status allocate(kcenter *s)
{
    adze_status st = ADZE_OK;
    size_t N = (size_t)s->N, padded = (size_t)tiles_of(s->K) * TILE;
    size_t panel_bytes = packed_bytes(s, PANEL);
    panel_bytes = (panel_bytes + ADZE_MEMORY_ALIGN - 1) / ADZE_MEMORY_ALIGN * ADZE_MEMORY_ALIGN;
    s->m = adze_malloc(N * sizeof *s->m);
    s->seen = adze_calloc(N, sizeof *s->seen);
    s->list = adze_malloc(N * sizeof *s->list);
    s->ordered = adze_malloc(N * sizeof *s->ordered);
    s->bins = adze_malloc(bins_of(s->K) * sizeof *s->bins);
    s->mean = adze_malloc((size_t)s->d * sizeof *s->mean);
    s->tiles = adze_calloc(1, packed_bytes(s, (int64_t)padded));
    s->init = adze_malloc(padded * sizeof *s->init);
    s->norm = adze_malloc(padded * sizeof *s->norm);
    s->residual = adze_malloc(padded * sizeof *s->residual);
    s->workers = adze_calloc((size_t)s->threads, sizeof *s->workers);
    s->panels = adze_malloc((size_t)s->threads * panel_bytes);
    REQUIRE(s->m && s->seen && s->list && s->ordered && s->bins && s->mean && s->tiles && s->init && s->norm &&
                s->residual && s->workers && s->panels,
            ADZE_ENOMEM, "kcenter: %zu host bytes for N=%" PRId64 " d=%" PRId64 " K=%" PRId64,
            adze_kcenter_bytes(s->N, s->d, s->K), s->N, s->d, s->K);
    for (size_t j = 0; j < padded; j++) s->init[j] = -FLT_MAX; /* no pick yet: no hit */
    for (int t = 0; t < s->threads; t++) s->workers[t].panel = (unsigned char *)s->panels + (size_t)t * panel_bytes;
done:
    return st;
}

adze_status adze_kcenter_select(const float *x, int64_t N, int64_t d, int64_t K, const adze_kcenter_opts *opts,
                                int64_t *picks, float *start, float *rest, adze_kcenter_stats *stats)
{
    adze_status st = ADZE_OK;
    adze_kcenter_stats done_stats = { 0 };
    kcenter s = { .x = x, .N = N, .d = d, .K = K, .picks = picks };
    adze_isa isa;
    TRY(check_options(N, d, K, opts));
    if (opts->ctx && opts->ctx->backend->kcenter) {
        st = opts->ctx->backend->kcenter(opts->ctx, x, N, d, K, opts, picks, start, rest);
        if (stats) *stats = done_stats;
        goto done;
    }
    TRY(adze_isa_resolve(opts->isa, &isa));
    s.kernels = adze_score_kernels_get(isa);
    s.type = s.kernels->tile[ADZE_SCORE_BF16] ? ADZE_SCORE_BF16 : ADZE_SCORE_F32;
    s.threads = adze_threads_resolve(opts->threads);
    s.A = adze_score_accumulation(d, s.type);
    /* direct distance in float: d/16 + 4 additions, a difference counted twice, a product, the root, all squared */
    s.slack = ((double)d / 16.0 + 16.0) * 0x1p-22;
    TRY(allocate(&s));
    TRY(start_values(&s, opts));
    if (start) memcpy(start, s.m, (size_t)N * sizeof *start);
    TRY(select_all(&s, opts, &done_stats));
    for (int64_t at = s.n_picks; at < K; at++) picks[at] = 0;
    if (rest) {
        for (int64_t i = 0; i < N; i++) s.list[i] = (int32_t)i;
        update_rows(&s, N, -1.0f);
        memcpy(rest, s.m, (size_t)N * sizeof *rest);
    }
    for (int t = 0; t < s.threads; t++) {
        done_stats.filtered += s.workers[t].filtered;
        done_stats.direct += s.workers[t].direct;
    }
    if (stats) *stats = done_stats;
done:
    adze_free(s.m), adze_free(s.seen), adze_free(s.list), adze_free(s.ordered), adze_free(s.bins), adze_free(s.mean);
    adze_free(s.tiles), adze_free(s.init), adze_free(s.norm), adze_free(s.residual), adze_free(s.workers);
    adze_free(s.panels);
    return st;
}
