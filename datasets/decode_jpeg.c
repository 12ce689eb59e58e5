/* decode_jpeg.c - libjpeg-turbo with its defaults: accurate integer DCT, fancy upsampling. Entry: adze_decode_jpeg().
 *
 * Four components are inverted CMYK with or without an Adobe marker, as Pillow has it. Of libjpeg's warnings only "the
 * data ended early" is an error: all others leave the same pixels as in the reference. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
/* after stdio.h */
#include <jerror.h>
#include <jpeglib.h>

#include "core/memory.h"
#include "datasets/decode.h"

enum { MAX_SCANS = 500, EXIF_ORIENTATION = 0x0112, EXIF_SHORT = 3 };

typedef struct {
    struct jpeg_decompress_struct c; /* first: c.err and c.progress lead back here */
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    adze_image image;
    unsigned char *cmyk; /* one row; owned */
    int64_t n_warnings;
    jmp_buf leave;
    int code;
    char message[JMSG_LENGTH_MAX];
} reader;

static void on_error(j_common_ptr c)
{
    reader *r = c->client_data;
    r->code = c->err->msg_code;
    c->err->format_message(c, r->message);
    longjmp(r->leave, 1);
}

static void on_message(j_common_ptr c, int level)
{
    reader *r = c->client_data;
    if (level >= 0) return;
    if (c->err->msg_code == JWRN_JPEG_EOF) on_error(c);
    r->n_warnings++;
}

static void on_progress(j_common_ptr c)
{
    reader *r = c->client_data;
    if (r->c.input_scan_number <= MAX_SCANS) return;
    r->code = 0;
    snprintf(r->message, sizeof r->message, "more than %d scans", MAX_SCANS);
    longjmp(r->leave, 1);
}

static unsigned u16(const unsigned char *p, bool big)
{
    return big ? (unsigned)p[0] << 8 | p[1] : (unsigned)p[1] << 8 | p[0];
}

static size_t u32(const unsigned char *p, bool big)
{
    return big ? (size_t)u16(p, big) << 16 | u16(p + 2, big) : (size_t)u16(p + 2, big) << 16 | u16(p, big);
}

/* The orientation of an APP1 "Exif" block; 1 if it has none or is malformed. */
static int exif_orientation(const unsigned char *p, size_t n)
{
    if (n < 14 || memcmp(p, "Exif\0\0", 6) != 0) return 1;
    p += 6, n -= 6;
    bool big = p[0] == 'M';
    size_t at = u32(p + 4, big);
    if (at > n - 2) return 1;
    unsigned count = u16(p + at, big);
    at += 2;
    for (unsigned i = 0; i < count && n - at >= 12; i++, at += 12)
        if (u16(p + at, big) == EXIF_ORIENTATION && u16(p + at + 2, big) == EXIF_SHORT) {
            unsigned o = u16(p + at + 8, big);
            return o >= 1 && o <= 8 ? (int)o : 1;
        }
    return 1;
}

/* a*b/255 rounded. */
static int muldiv255(int a, int b)
{
    int t = a * b + 128;
    return (t + (t >> 8)) >> 8;
}

/* Inverted CMYK: with n = 255 - K, channel = n - C n / 255. */
static void cmyk_to_rgb(const unsigned char *cmyk, int64_t n_pixels, unsigned char *rgb)
{
    for (int64_t i = 0; i < n_pixels; i++) {
        int n = cmyk[4 * i + 3];
        for (int c = 0; c < 3; c++) {
            int v = n - muldiv255(255 - cmyk[4 * i + c], n);
            rgb[3 * i + c] = (unsigned char)(v < 0 ? 0 : v);
        }
    }
}

static adze_status prepare(reader *r, int *orientation)
{
    adze_status st = ADZE_OK;
    jpeg_save_markers(&r->c, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(&r->c, TRUE);
    for (jpeg_saved_marker_ptr m = r->c.marker_list; m && *orientation == 1; m = m->next)
        *orientation = exif_orientation(m->data, m->data_length);
    int64_t W = r->c.image_width, H = r->c.image_height;
    int n = r->c.num_components;
    REQUIRE(H <= ADZE_IMAGE_MAX_PIXELS / W, ADZE_EINPUT, "%" PRId64 "x%" PRId64 " pixels, the limit is %d in all", W, H,
            ADZE_IMAGE_MAX_PIXELS);
    REQUIRE(n == 1 || n == 3 || n == 4, ADZE_EINPUT, "JPEG: %d components, want 1, 3 or 4", n);
    r->c.out_color_space = n == 1 ? JCS_GRAYSCALE : n == 3 ? JCS_RGB : JCS_CMYK;
    size_t limit = adze_memory_limit(), live = adze_memory_live_bytes();
    if (limit) r->c.mem->max_memory_to_use = limit > live ? (long)(limit - live) : 1;
    TRY(adze_image_create(&r->image, H, W, n == 1 ? 1 : 3));
    if (n == 4) REQUIRE(r->cmyk = adze_malloc((size_t)W * 4), ADZE_ENOMEM, "CMYK row: %zu host bytes", (size_t)W * 4);
done:
    return st;
}

static adze_status run(reader *r, const unsigned char *data, size_t n_bytes, int *orientation)
{
    if (setjmp(r->leave)) {
        if (r->code == JERR_OUT_OF_MEMORY || r->code == JERR_NO_BACKING_STORE)
            return adze_fail(ADZE_ENOMEM, "JPEG: %s", r->message);
        return adze_fail(ADZE_EINPUT, "JPEG: %s", r->message);
    }
    jpeg_create_decompress(&r->c);
    r->c.progress = &r->progress;
    jpeg_mem_src(&r->c, data, n_bytes);
    adze_status st = prepare(r, orientation);
    if (st != ADZE_OK) return st;
    jpeg_start_decompress(&r->c);
    while (r->c.output_scanline < r->c.output_height) {
        size_t y = r->c.output_scanline;
        unsigned char *row = r->image.data + y * (size_t)(r->image.W * r->image.C), *into = r->cmyk ? r->cmyk : row;
        if (jpeg_read_scanlines(&r->c, &into, 1) != 1) return adze_fail(ADZE_EINPUT, "JPEG: no row %zu", y);
        if (r->cmyk) cmyk_to_rgb(r->cmyk, r->image.W, row);
    }
    jpeg_finish_decompress(&r->c);
    return ADZE_OK;
}

adze_status adze_decode_jpeg(adze_image *out, const unsigned char *data, size_t n_bytes, int *orientation,
                             adze_decode_info *info)
{
    reader r = { .code = 0 };
    r.c.err = jpeg_std_error(&r.errors);
    r.c.client_data = &r;
    r.errors.error_exit = on_error;
    r.errors.emit_message = on_message;
    r.progress.progress_monitor = on_progress;
    *out = ADZE_IMAGE_EMPTY;
    *orientation = 1;
    adze_status st = run(&r, data, n_bytes, orientation);
    if (st == ADZE_OK) {
        *out = r.image;
        r.image = ADZE_IMAGE_EMPTY;
        info->n_warnings = r.n_warnings;
    }
    jpeg_destroy_decompress(&r.c);
    adze_free(r.cmyk);
    adze_image_destroy(&r.image);
    return st;
}
