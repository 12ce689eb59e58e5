/* context.c - opening a device. Entry: adze_ctx_create(). */
#include "core/context.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "core/backend.h"
#include "core/backend_load.h"
#include "core/memory.h"

/* "cuda", "cuda:N", "cusim", "cusim:N" */
static bool is_gpu(const char *device, int *index)
{
    int length = 0;
    const bool cuda = strncmp(device, "cuda", 4) == 0, cusim = strncmp(device, "cusim", 5) == 0;
    const char *rest = device + (cuda ? 4 : 5);
    *index = 0;
    if (!cuda && !cusim) return false;
    return *rest == 0 || (sscanf(rest, ":%4d%n", index, &length) == 1 && rest[length] == 0 && *index >= 0 && rest[1] != '+');
}

static adze_status open_backend(adze_ctx *ctx, const char *device)
{
    adze_status st = ADZE_OK;
    const adze_backend *backend = &adze_backend_cpu;
    if (strcmp(device, "cpu") != 0) TRY(adze_backend_load(strncmp(device, "cusim", 5) == 0 ? "cusim" : "cuda", &backend));
    ctx->opts.device = backend->name;
    TRY(backend->open(ctx));
    ctx->backend = backend;
done:
    return st;
}

adze_status adze_ctx_create(adze_ctx **out, const adze_ctx_opts *opts)
{
    adze_status st = ADZE_OK;
    *out = NULL;
    adze_ctx *ctx = adze_calloc(1, sizeof *ctx);
    REQUIRE(ctx, ADZE_ENOMEM, "context: %zu host bytes", sizeof *ctx);
    ctx->opts = *opts;
    const char *device = opts->device ? opts->device : "auto";
    REQUIRE(opts->threads >= 0, ADZE_EINVAL, "threads %d, want 0 or more", opts->threads);
    ctx->threads = opts->threads > 0 ? opts->threads : omp_get_num_procs();
    const bool any = strcmp(device, "auto") == 0;
    REQUIRE(any || strcmp(device, "cpu") == 0 || is_gpu(device, &ctx->device_index), ADZE_EINVAL,
            "device '%s' is unknown; auto, cpu, cuda, cuda:N, cusim are known", device);
    st = any ? open_backend(ctx, "cuda") : open_backend(ctx, device);
    if (any && st == ADZE_EBACKEND) st = open_backend(ctx, "cpu");
    TRY(st);
    *out = ctx;
    ctx = NULL;
done:
    adze_ctx_destroy(ctx);
    return st;
}

void adze_ctx_destroy(adze_ctx *ctx)
{
    if (!ctx) return;
    if (ctx->backend) ctx->backend->close(ctx);
    adze_free(ctx);
}

const char *adze_ctx_device(const adze_ctx *ctx) { return ctx->backend->name; }
const char *adze_ctx_description(const adze_ctx *ctx) { return ctx->description; }

void adze_ctx_enter(adze_ctx *ctx, const char *name)
{
    if (ctx->backend->enter) ctx->backend->enter(ctx, name);
}

void adze_ctx_leave(adze_ctx *ctx)
{
    if (ctx->backend->leave) ctx->backend->leave(ctx);
}
int adze_ctx_threads(const adze_ctx *ctx) { return ctx->threads; }
adze_precision adze_ctx_precision(const adze_ctx *ctx) { return ctx->opts.precision; }

const char *adze_ctx_numerics(const adze_ctx *ctx, char text[ADZE_NUMERICS_TEXT])
{
    const char *device = ctx->numerics[0] ? ctx->numerics : ctx->description;
    snprintf(text, ADZE_NUMERICS_TEXT, "%s, %s", device, adze_precision_name(ctx->opts.precision));
    return text;
}

static const char *const precision_name[] = { "f32", "tf32", "bf16" };

adze_status adze_precision_parse(const char *text, adze_precision *out)
{
    for (int p = ADZE_PRECISION_F32; p <= ADZE_PRECISION_BF16; p++)
        if (strcmp(text, precision_name[p]) == 0) {
            *out = (adze_precision)p;
            return ADZE_OK;
        }
    return adze_fail(ADZE_EINVAL, "precision '%s', want f32, tf32 or bf16", text);
}

const char *adze_precision_name(adze_precision p)
{
    return (unsigned)p <= ADZE_PRECISION_BF16 ? precision_name[p] : "unknown";
}
