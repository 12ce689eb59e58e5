/* encode_png.c - pictures to PNG through libpng's row interface. Entry: adze_image_write_png(). */
#include "datasets/encode_png.h"

#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/memory.h"

enum { COMPRESSION_LEVEL = 4 };

typedef struct {
    png_structp png;
    png_infop info;
    unsigned char *data; /* owned */
    size_t n_bytes, capacity_bytes;
    bool no_memory;
    jmp_buf leave;
    char message[256];
} writer;

static void on_error(png_structp png, png_const_charp text)
{
    writer *w = png_get_error_ptr(png);
    snprintf(w->message, sizeof w->message, "%s", text);
    longjmp(w->leave, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png, (void)text;
}

static void on_write(png_structp png, png_bytep p, size_t n)
{
    writer *w = png_get_io_ptr(png);
    if (n > w->capacity_bytes - w->n_bytes) {
        size_t grown = 2 * w->capacity_bytes + n + 4096;
        unsigned char *data = adze_realloc(w->data, grown);
        if (!data) {
            w->no_memory = true;
            png_error(png, "no memory");
        }
        w->data = data;
        w->capacity_bytes = grown;
    }
    memcpy(w->data + w->n_bytes, p, n);
    w->n_bytes += n;
}

static void on_flush(png_structp png)
{
    (void)png;
}

static png_voidp on_malloc(png_structp png, png_alloc_size_t n)
{
    writer *w = png_get_mem_ptr(png);
    void *p = adze_malloc(n);
    if (!p) w->no_memory = true;
    return p;
}

static void on_free(png_structp png, png_voidp p)
{
    (void)png;
    adze_free(p);
}

static adze_status run(writer *w, const adze_image *im)
{
    if (setjmp(w->leave))
        return adze_fail(w->no_memory ? ADZE_ENOMEM : ADZE_EINTERNAL, "PNG: %s", w->no_memory ? "no memory" : w->message);
    w->png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, w, on_error, on_warning, w, on_malloc, on_free);
    if (!w->png) return adze_fail(ADZE_ENOMEM, "PNG: no memory for the writer");
    w->info = png_create_info_struct(w->png);
    if (!w->info) return adze_fail(ADZE_ENOMEM, "PNG: no memory for the header");
    png_set_write_fn(w->png, w, on_write, on_flush);
    png_set_user_limits(w->png, ADZE_IMAGE_MAX_PIXELS, ADZE_IMAGE_MAX_PIXELS);
    png_set_compression_level(w->png, COMPRESSION_LEVEL);
    png_set_IHDR(w->png, w->info, (png_uint_32)im->W, (png_uint_32)im->H, 8,
                 im->C == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(w->png, w->info);
    for (int64_t y = 0; y < im->H; y++) png_write_row(w->png, im->data + y * im->W * im->C);
    png_write_end(w->png, w->info);
    return ADZE_OK;
}

adze_status adze_image_encode_png(const adze_image *im, unsigned char **data, size_t *n_bytes)
{
    writer w = { .png = NULL };
    *data = NULL;
    *n_bytes = 0;
    adze_status st = run(&w, im);
    if (st == ADZE_OK) {
        *data = w.data;
        *n_bytes = w.n_bytes;
        w.data = NULL;
    }
    png_destroy_write_struct(&w.png, &w.info);
    adze_free(w.data);
    return st;
}

adze_status adze_image_write_png(const adze_image *im, const char *path)
{
    unsigned char *data;
    size_t n_bytes;
    adze_status st = adze_image_encode_png(im, &data, &n_bytes);
    if (st != ADZE_OK) return st;
    st = adze_file_write(path, data, n_bytes);
    adze_free(data);
    return st;
}
