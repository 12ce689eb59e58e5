/* decode_png.c - libpng's row interface and nothing else of libpng. Entry: adze_decode_png().
 *
 * 16-bit grey is not scaled but clipped at 255: that is what the reference pipeline feeds its networks. IEND is not
 * asked for: a file whose last rows are sound is accepted, as by Pillow. libpng leaves by longjmp, so everything that it
 * may leave behind sits in one struct. */
#include <inttypes.h>
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "datasets/decode.h"

enum {
    MAX_INTERLACED_PIXELS = 1 << 26, /* seven passes over the whole picture: a bomb is cheap to make */
    MAX_CHUNKS = 256,
    MAX_CHUNK_BYTES = 1 << 23
};

typedef struct {
    const unsigned char *data;
    size_t n_bytes, at;
    png_structp png;
    png_infop info;
    adze_image image;
    unsigned char *wide; /* rows of 16-bit grey before clipping; owned */
    bool no_memory;
    int64_t n_warnings;
    jmp_buf leave;
    char message[256];
} reader;

static void on_error(png_structp png, png_const_charp text)
{
    reader *r = png_get_error_ptr(png);
    snprintf(r->message, sizeof r->message, "%s", text);
    longjmp(r->leave, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)text;
    reader *r = png_get_error_ptr(png);
    r->n_warnings++;
}

static void on_read(png_structp png, png_bytep out, size_t n)
{
    reader *r = png_get_io_ptr(png);
    if (n > r->n_bytes - r->at) png_error(png, "truncated file");
    memcpy(out, r->data + r->at, n);
    r->at += n;
}

static png_voidp on_malloc(png_structp png, png_alloc_size_t n)
{
    reader *r = png_get_mem_ptr(png);
    void *p = adze_malloc(n);
    if (!p) r->no_memory = true;
    return p;
}

static void on_free(png_structp png, png_voidp p)
{
    (void)png;
    adze_free(p);
}

/* Header and transformations; creates r->image and, for 16-bit grey, r->wide. */
static adze_status prepare(reader *r, adze_decode_info *info)
{
    adze_status st = ADZE_OK;
    png_set_user_limits(r->png, ADZE_IMAGE_MAX_PIXELS, ADZE_IMAGE_MAX_PIXELS);
    png_set_chunk_cache_max(r->png, MAX_CHUNKS);
    png_set_chunk_malloc_max(r->png, MAX_CHUNK_BYTES);
    png_set_crc_action(r->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_read_info(r->png, r->info);
    int64_t W = png_get_image_width(r->png, r->info), H = png_get_image_height(r->png, r->info);
    int color = png_get_color_type(r->png, r->info), bits = png_get_bit_depth(r->png, r->info);
    REQUIRE(H <= ADZE_IMAGE_MAX_PIXELS / W, ADZE_EINPUT, "%" PRId64 "x%" PRId64 " pixels, the limit is %d in all", W, H,
            ADZE_IMAGE_MAX_PIXELS);
    REQUIRE(png_get_interlace_type(r->png, r->info) == PNG_INTERLACE_NONE || H * W <= MAX_INTERLACED_PIXELS, ADZE_EINPUT,
            "interlaced with %" PRId64 "x%" PRId64 " pixels, the limit is %d in all", W, H, MAX_INTERLACED_PIXELS);
    if (color == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(r->png);
    if (color == PNG_COLOR_TYPE_GRAY && bits < 8) png_set_expand_gray_1_2_4_to_8(r->png);
    if ((color & PNG_COLOR_MASK_ALPHA) || color == PNG_COLOR_TYPE_PALETTE) png_set_strip_alpha(r->png);
    info->gray16 = bits == 16 && color == PNG_COLOR_TYPE_GRAY;
    if (bits == 16 && !info->gray16) png_set_strip_16(r->png);
    int64_t C = color & PNG_COLOR_MASK_COLOR ? 3 : 1;
    TRY(adze_image_create(&r->image, H, W, C));
    if (info->gray16)
        REQUIRE(r->wide = adze_malloc((size_t)(H * W) * 2), ADZE_ENOMEM, "16-bit rows: %zu host bytes", (size_t)(H * W) * 2);
done:
    return st;
}

static void read_rows(reader *r)
{
    int n_passes = png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    size_t row_bytes = (size_t)(r->image.W * r->image.C) * (r->wide ? 2 : 1);
    if (png_get_rowbytes(r->png, r->info) != row_bytes) png_error(r->png, "row size differs from the header's");
    unsigned char *base = r->wide ? r->wide : r->image.data;
    for (int pass = 0; pass < n_passes; pass++)
        for (int64_t y = 0; y < r->image.H; y++) png_read_row(r->png, base + (size_t)y * row_bytes, NULL);
}

static adze_status run(reader *r, adze_decode_info *info)
{
    if (setjmp(r->leave)) {
        if (r->no_memory) return adze_fail(ADZE_ENOMEM, "PNG: no memory in libpng");
        return adze_fail(ADZE_EINPUT, "PNG: %s", r->message);
    }
    r->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, r, on_error, on_warning, r, on_malloc, on_free);
    if (!r->png) return adze_fail(ADZE_ENOMEM, "PNG: no memory for the reader");
    r->info = png_create_info_struct(r->png);
    if (!r->info) return adze_fail(ADZE_ENOMEM, "PNG: no memory for the header");
    png_set_read_fn(r->png, r, on_read);
    adze_status st = prepare(r, info);
    if (st != ADZE_OK) return st;
    read_rows(r);
    return ADZE_OK;
}

adze_status adze_decode_png(adze_image *out, const unsigned char *data, size_t n_bytes, bool gray16_shift,
                            adze_decode_info *info)
{
    reader r = { .data = data, .n_bytes = n_bytes };
    *out = ADZE_IMAGE_EMPTY;
    adze_status st = run(&r, info);
    if (st == ADZE_OK && r.wide) {
        int64_t n = r.image.H * r.image.W;
        for (int64_t i = 0; i < n; i++)
            r.image.data[i] = gray16_shift || r.wide[2 * i] == 0 ? r.wide[2 * i + !gray16_shift] : 255;
    }
    if (st == ADZE_OK) {
        *out = r.image;
        r.image = ADZE_IMAGE_EMPTY;
        info->n_warnings = r.n_warnings;
    }
    png_destroy_read_struct(&r.png, &r.info, NULL);
    adze_free(r.wide);
    adze_image_destroy(&r.image);
    return st;
}
