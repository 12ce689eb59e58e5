/* synth.c - a small procedural data set of individualised products. Entry: adze_synth_write().
 *
 * Pictures are drawn in units of the picture's side, (0,0) to (1,1), with coverage from signed distances. No function of libm
 * but sqrt, so that the bytes do not depend on the machine. */
#include "datasets/synth.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/memory.h"
#include "datasets/encode_png.h"

enum { MAX_ELEMENTS = 25, MAX_CLASSES = 99, MAX_PICTURES = 100000, N_COLORS = 4, N_SHAPES = 6, LEAST_MASK = 12, MAX_TRIES = 64 };

typedef struct {
    uint64_t seed, n;
} stream;

typedef struct {
    double r, g, b;
} color;

typedef enum { SHAPE_DISC, SHAPE_SQUARE, SHAPE_TRIANGLE, SHAPE_RING, SHAPE_BAR, SHAPE_CROSS } shape;

/* What all products of a class share. */
typedef struct {
    color table, plate, palette[N_COLORS];
    shape shapes[3];
    int grid;            /* cells per side that may hold an element */
    double fill, corner; /* share of cells filled on average; radius of the plate's corners */
} archetype;

typedef struct {
    shape shape;
    double x, y, r, ux, uy; /* centre, size, direction */
    color color;
} element;

/* One defect, at most one of the parts in use. */
typedef struct {
    adze_synth_kind kind;
    int victim;                /* broken, foreign: which element */
    double x, y, ux, uy, r, bend; /* cut line, scratch or stain */
    color color;
} defect;

typedef struct {
    archetype a;
    element elements[MAX_ELEMENTS];
    int n_elements;
    double light, slope_x, slope_y;
    uint64_t grain;
    defect d;
} product;

static const char *const kind_names[ADZE_SYNTH_COUNT] = { "good", "broken", "foreign", "scratch", "stain" };

const char *adze_synth_name(adze_synth_kind kind)
{
    return (unsigned)kind < ADZE_SYNTH_COUNT ? kind_names[kind] : NULL;
}

static stream stream_of(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t key = adze_splitmix64(adze_splitmix64(adze_splitmix64(adze_splitmix64(seed) ^ a) ^ b) ^ c);
    return (stream){ key, 0 };
}

/* [0,1) */
static double unit(stream *s)
{
    return (double)(adze_splitmix64(s->seed + s->n++) >> 11) * 0x1p-53;
}

static double between(stream *s, double lo, double hi)
{
    return lo + (hi - lo) * unit(s);
}

static int pick(stream *s, int n)
{
    return (int)(unit(s) * n);
}

/* A direction, uniform enough: a point of the square inside the disc. */
static void direction(stream *s, double *ux, double *uy)
{
    double x, y, r2;
    do {
        x = between(s, -1.0, 1.0), y = between(s, -1.0, 1.0);
        r2 = x * x + y * y;
    } while (r2 > 1.0 || r2 < 0.01);
    *ux = x / sqrt(r2), *uy = y / sqrt(r2);
}

static color mix(color a, color b, double t)
{
    return (color){ a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t };
}

/* A full hue by its place on the six edges of the colour cube, mixed with grey. */
static color hue(double h, double saturation, double value)
{
    double k = h * 6.0, f = k - floor(k);
    color c[6] = { { 1, f, 0 }, { 1 - f, 1, 0 }, { 0, 1, f }, { 0, 1 - f, 1 }, { f, 0, 1 }, { 1, 0, 1 - f } };
    color full = c[(int)k % 6], grey = { 1, 1, 1 };
    full = mix(grey, full, saturation);
    return (color){ full.r * value, full.g * value, full.b * value };
}

static archetype draw_archetype(uint64_t seed, int64_t class_number)
{
    stream s = stream_of(seed, 1, (uint64_t)class_number, 0);
    archetype a;
    double base = unit(&s);
    a.table = hue(unit(&s), 0.1, between(&s, 0.15, 0.3));
    a.plate = hue(base, between(&s, 0.1, 0.35), between(&s, 0.55, 0.8));
    for (int i = 0; i < N_COLORS; i++) { /* a third of the hues: foreign colours come from the rest */
        double h = base + 0.3 * (double)i / N_COLORS;
        a.palette[i] = hue(h - floor(h), between(&s, 0.6, 0.9), between(&s, 0.35, 0.9));
    }
    int first = pick(&s, N_SHAPES);
    for (int i = 0; i < 3; i++) a.shapes[i] = (shape)((first + i) % N_SHAPES);
    a.grid = 3 + pick(&s, 3);
    a.fill = between(&s, 0.45, 0.75);
    a.corner = between(&s, 0.02, 0.12);
    return a;
}

static double foreign_hue(uint64_t seed, int64_t class_number, stream *s)
{
    stream again = stream_of(seed, 1, (uint64_t)class_number, 0);
    double h = unit(&again) + between(s, 0.5, 0.8); /* opposite the palette */
    return h - floor(h);
}

static void draw_elements(product *p, stream *s)
{
    const archetype *a = &p->a;
    double cell = 0.8 / a->grid;
    for (int i = 0; i < a->grid * a->grid; i++) {
        if (unit(s) > a->fill && !(i == a->grid * a->grid - 1 && p->n_elements == 0)) continue;
        element *e = &p->elements[p->n_elements++];
        e->shape = a->shapes[pick(s, 3)];
        e->r = cell * between(s, 0.25, 0.38);
        e->x = 0.1 + cell * (i % a->grid + 0.5) + cell * between(s, -0.1, 0.1);
        e->y = 0.1 + cell * (double)(i / a->grid) + cell * 0.5 + cell * between(s, -0.1, 0.1);
        direction(s, &e->ux, &e->uy);
        e->color = a->palette[pick(s, N_COLORS)];
    }
}

static void draw_defect(product *p, const adze_synth_opts *o, int64_t class_number, adze_synth_kind kind, stream *s)
{
    defect *d = &p->d;
    d->kind = kind;
    d->victim = pick(s, p->n_elements);
    const element *e = &p->elements[d->victim];
    direction(s, &d->ux, &d->uy);
    d->x = between(s, 0.2, 0.8), d->y = between(s, 0.2, 0.8);
    d->bend = between(s, -1.5, 1.5);
    d->color = hue(foreign_hue(o->seed, class_number, s), 0.85, between(s, 0.5, 0.9));
    if (kind == ADZE_SYNTH_BROKEN) { /* the cut passes near the middle */
        d->r = between(s, -0.2, 0.3) * e->r;
        d->x = e->x + d->ux * d->r, d->y = e->y + d->uy * d->r;
    } else if (kind == ADZE_SYNTH_SCRATCH) {
        d->r = between(s, 0.08, 0.22); /* half its length */
        double v = between(s, 0.0, 1.0) < 0.5 ? 0.1 : 0.98;
        d->color = (color){ v, v, v };
    } else if (kind == ADZE_SYNTH_STAIN) {
        d->r = between(s, 0.05, 0.1);
        d->color = hue(unit(s), 0.5, 0.25);
    }
}

static double larger(double a, double b) { return a > b ? a : b; }
static double smaller(double a, double b) { return a < b ? a : b; }

/* Signed distance to the element, negative inside. */
static double distance(const element *e, double x, double y)
{
    double dx = x - e->x, dy = y - e->y, r = e->r;
    double u = dx * e->ux + dy * e->uy, v = dy * e->ux - dx * e->uy, au = fabs(u), av = fabs(v);
    switch (e->shape) {
    case SHAPE_DISC: return sqrt(dx * dx + dy * dy) - r;
    case SHAPE_SQUARE: return larger(au, av) - 0.8 * r;
    case SHAPE_TRIANGLE: return larger(v, 0.8660254037844386 * au - 0.5 * v) - 0.55 * r;
    case SHAPE_RING: return fabs(sqrt(dx * dx + dy * dy) - 0.75 * r) - 0.25 * r;
    case SHAPE_BAR: return larger(au - r, av - 0.4 * r);
    case SHAPE_CROSS: return smaller(larger(au - r, av - 0.3 * r), larger(av - r, au - 0.3 * r));
    }
    return 1.0;
}

/* Share of a pixel covered, distance in pixels. */
static double cover(double d_pixels)
{
    return d_pixels <= -0.5 ? 1.0 : d_pixels >= 0.5 ? 0.0 : 0.5 - d_pixels;
}

/* Smooth noise in [-1,1] from a lattice of hashed values. */
static double noise(uint64_t seed, double x, double y)
{
    double fx = floor(x), fy = floor(y), tx = x - fx, ty = y - fy, corner[4];
    tx = tx * tx * (3.0 - 2.0 * tx), ty = ty * ty * (3.0 - 2.0 * ty);
    for (int k = 0; k < 4; k++) {
        uint64_t at = (uint64_t)((int64_t)fx + (k & 1)) * 0x10001u + (uint64_t)((int64_t)fy + (k >> 1));
        corner[k] = (double)(adze_splitmix64(seed ^ adze_splitmix64(at)) >> 11) * 0x1p-52 - 1.0;
    }
    double top = corner[0] + (corner[1] - corner[0]) * tx, low = corner[2] + (corner[3] - corner[2]) * tx;
    return top + (low - top) * ty;
}

/* Colour of a point; *marked becomes how much of it is defect. */
static color shade(const product *p, double x, double y, double side, double *marked)
{
    const archetype *a = &p->a;
    const defect *d = &p->d;
    double cx = larger(fabs(x - 0.5) - 0.44 + a->corner, 0.0), cy = larger(fabs(y - 0.5) - 0.44 + a->corner, 0.0);
    double on_plate = cover((sqrt(cx * cx + cy * cy) - a->corner) * side);
    color c = mix(a->table, a->plate, on_plate);
    *marked = 0.0;
    for (int i = 0; i < p->n_elements; i++) {
        const element *e = &p->elements[i];
        double t = cover(distance(e, x, y) * side);
        if (t == 0.0) continue;
        color own = e->color;
        if (i == d->victim && d->kind == ADZE_SYNTH_FOREIGN) own = d->color, *marked = t;
        if (i == d->victim && d->kind == ADZE_SYNTH_BROKEN) {
            double gone = cover(((d->x - x) * d->ux + (d->y - y) * d->uy) * side);
            *marked = t * gone;
            t -= *marked;
        }
        c = mix(c, own, t);
    }
    double u = (x - d->x) * d->ux + (y - d->y) * d->uy, v = (y - d->y) * d->ux - (x - d->x) * d->uy;
    if (d->kind == ADZE_SYNTH_SCRATCH) {
        double off = fabs(v - d->bend * (u * u - d->r * d->r)), thick = larger(0.004, 1.0 / side);
        *marked = cover(larger(off - thick, fabs(u) - d->r) * side);
        c = mix(c, d->color, 0.9 * *marked);
    } else if (d->kind == ADZE_SYNTH_STAIN) {
        double wobble = 0.3 * noise(p->grain + 7, 20.0 * x, 20.0 * y);
        double inside = 1.0 - sqrt(u * u + 1.7 * v * v) / d->r + wobble;
        double t = inside <= 0.0 ? 0.0 : inside >= 0.25 ? 1.0 : inside * 4.0;
        *marked = t;
        c = mix(c, d->color, 0.7 * t);
    }
    return c;
}

static unsigned char byte_of(double v)
{
    v = v * 255.0 + 0.5;
    return (unsigned char)(v < 0.0 ? 0.0 : v > 255.0 ? 255.0 : v);
}

static int64_t paint(const product *p, adze_image *picture, adze_image *mask)
{
    int64_t n = picture->W, n_marked = 0;
    double side = (double)n;
    for (int64_t y = 0; y < n; y++)
        for (int64_t x = 0; x < n; x++) {
            double px = ((double)x + 0.5) / side, py = ((double)y + 0.5) / side, marked;
            color c = shade(p, px, py, side, &marked);
            double grain = (double)(adze_splitmix64(p->grain ^ (uint64_t)(y * n + x)) >> 11) * 0x1p-52 - 1.0;
            double light = p->light + p->slope_x * (px - 0.5) + p->slope_y * (py - 0.5) + 0.02 * noise(p->grain, 24.0 * px, 24.0 * py);
            unsigned char *out = picture->data + (y * n + x) * 3;
            out[0] = byte_of(c.r * light + 0.012 * grain);
            out[1] = byte_of(c.g * light + 0.012 * grain);
            out[2] = byte_of(c.b * light + 0.012 * grain);
            mask->data[y * n + x] = marked >= 0.5 ? 255 : 0;
            n_marked += marked >= 0.5;
        }
    return n_marked;
}

static adze_status check_opts(const adze_synth_opts *o)
{
    if (o->n_classes < 1 || o->n_classes > MAX_CLASSES)
        return adze_fail(ADZE_EINVAL, "synth: %" PRId64 " classes, want 1 to %d", o->n_classes, MAX_CLASSES);
    if (o->size < 32 || o->size > 4096) return adze_fail(ADZE_EINVAL, "synth: size %" PRId64 ", want 32 to 4096", o->size);
    const int64_t each[3] = { o->n_train, o->n_test_good, o->n_test_bad };
    for (int i = 0; i < 3; i++)
        if (each[i] < 0 || each[i] > MAX_PICTURES)
            return adze_fail(ADZE_EINVAL, "synth: %" PRId64 " pictures, want 0 to %d", each[i], MAX_PICTURES);
    return ADZE_OK;
}

adze_status adze_synth_picture(adze_image *picture, adze_image *mask, const adze_synth_opts *opts, int64_t class_number,
                               int64_t number, adze_synth_kind kind)
{
    adze_status st = ADZE_OK;
    *picture = *mask = ADZE_IMAGE_EMPTY;
    TRY(check_opts(opts));
    REQUIRE(adze_synth_name(kind), ADZE_EINVAL, "synth: unknown kind %d", (int)kind);
    TRY(adze_image_create(picture, opts->size, opts->size, 3));
    TRY(adze_image_create(mask, opts->size, opts->size, 1));
    product p = { .a = draw_archetype(opts->seed, class_number) };
    stream s = stream_of(opts->seed, 2, (uint64_t)class_number, (uint64_t)number);
    p.light = between(&s, 0.92, 1.04);
    p.slope_x = between(&s, -0.08, 0.08), p.slope_y = between(&s, -0.08, 0.08);
    p.grain = adze_splitmix64(s.seed);
    draw_elements(&p, &s);
    for (int attempt = 0; attempt < MAX_TRIES; attempt++) { /* a cut may miss its element: draw again */
        if (kind != ADZE_SYNTH_GOOD) draw_defect(&p, opts, class_number, kind, &s);
        if (paint(&p, picture, mask) >= LEAST_MASK || kind == ADZE_SYNTH_GOOD) goto done;
    }
    st = adze_fail(ADZE_EINTERNAL, "synth: no visible defect in %d attempts", MAX_TRIES);
done:
    if (st != ADZE_OK) {
        adze_image_destroy(picture);
        adze_image_destroy(mask);
    }
    return st;
}

/* ROOT/product_01/FOLDER/000.png, and its mask if there is a defect. */
static adze_status write_one(const char *root, const adze_synth_opts *o, int64_t class_number, const char *split,
                             adze_synth_kind kind, int64_t index, int64_t number)
{
    adze_status st = ADZE_OK;
    adze_image picture = ADZE_IMAGE_EMPTY, mask = ADZE_IMAGE_EMPTY;
    char *folder = adze_strprintf("%s/product_%02" PRId64 "/%s/%s", root, class_number + 1, split, kind_names[kind]);
    char *truth = adze_strprintf("%s/product_%02" PRId64 "/ground_truth/%s", root, class_number + 1, kind_names[kind]);
    char *name = NULL, *mask_name = NULL;
    REQUIRE(folder && truth, ADZE_ENOMEM, "synth: no memory for a path");
    REQUIRE(name = adze_strprintf("%s/%03" PRId64 ".png", folder, index), ADZE_ENOMEM, "synth: no memory for a path");
    REQUIRE(mask_name = adze_strprintf("%s/%03" PRId64 "_mask.png", truth, index), ADZE_ENOMEM, "synth: no memory for a path");
    TRY(adze_folder_create(folder));
    TRY(adze_synth_picture(&picture, &mask, o, class_number, number, kind));
    TRY(adze_image_write_png(&picture, name));
    if (kind == ADZE_SYNTH_GOOD) goto done;
    TRY(adze_folder_create(truth));
    TRY(adze_image_write_png(&mask, mask_name));
done:
    adze_image_destroy(&picture);
    adze_image_destroy(&mask);
    adze_free(folder), adze_free(truth), adze_free(name), adze_free(mask_name);
    return st;
}

adze_status adze_synth_write(const char *root, const adze_synth_opts *opts)
{
    adze_status st = ADZE_OK;
    const int n_defects = ADZE_SYNTH_COUNT - 1;
    TRY(check_opts(opts));
    for (int64_t c = 0; c < opts->n_classes; c++) {
        int64_t number = 0;
        for (int64_t i = 0; i < opts->n_train; i++) TRY(write_one(root, opts, c, "train", ADZE_SYNTH_GOOD, i, number++));
        for (int64_t i = 0; i < opts->n_test_good; i++) TRY(write_one(root, opts, c, "test", ADZE_SYNTH_GOOD, i, number++));
        for (int64_t i = 0; i < opts->n_test_bad; i++)
            TRY(write_one(root, opts, c, "test", (adze_synth_kind)(1 + i % n_defects), i / n_defects, number++));
    }
done:
    return st;
}
