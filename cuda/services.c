/* services.c - adze_fail(), adze_malloc() and what goes with them, as calls into the program that loaded this backend. Entry:
 * adze_services_set().
 *
 * The shared object takes what it needs of core/ from libadze.a, but messages and memory counters must be the program's own.
 * These definitions come first, so the archive's status.o and memory.o stay out; a name missing here would bring one of them in
 * and stop the linker on the doubles. The table is the one variable of the object: written once, the same for every context. */
#include "cuda/services.h"

#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "core/status.h"

static const adze_services *program;

bool adze_services_set(const adze_services *services)
{
    if (services->abi != ADZE_BACKEND_ABI || services->op_count != ADZE_OP_COUNT ||
        services->backend_bytes != sizeof(adze_backend) || services->call_bytes != sizeof(adze_call))
        return false;
    program = services;
    return true;
}

adze_status adze_vfail(adze_status code, const char *fmt, va_list ap)
{
    return program->vfail(code, fmt, ap);
}

adze_status adze_fail(adze_status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    program->vfail(code, fmt, ap);
    va_end(ap);
    return code;
}

adze_status adze_fail_prefix(adze_status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    program->vfail_prefix(code, fmt, ap);
    va_end(ap);
    return code;
}

const char *adze_error_message(void) { return program->error_message(); }

void *adze_malloc(size_t n_bytes) { return program->malloc(n_bytes); }
void *adze_calloc(size_t count, size_t size_bytes) { return program->calloc(count, size_bytes); }
void *adze_realloc(void *p, size_t n_bytes) { return program->realloc(p, n_bytes); }
void adze_free(void *p) { program->free(p); }

char *adze_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = adze_malloc(n);
    if (copy) memcpy(copy, s, n);
    return copy;
}

char *adze_strprintf(const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *text = n < 0 ? NULL : adze_malloc((size_t)n + 1);
    if (text) vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return text;
}

bool adze_mul_size(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
bool adze_add_size(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }
