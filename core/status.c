/* status.c - result codes and the per-thread error message. Entry: adze_fail(). */
#include "core/status.h"

#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 1024 };

static _Thread_local char message[MESSAGE_BYTES];

adze_status adze_vfail(adze_status code, const char *fmt, va_list ap)
{
    char text[MESSAGE_BYTES]; /* the arguments may point into the old message */
    vsnprintf(text, sizeof text, fmt, ap);
    memcpy(message, text, sizeof text);
    return code;
}

adze_status adze_fail(adze_status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    adze_vfail(code, fmt, ap);
    va_end(ap);
    return code;
}

adze_status adze_vfail_prefix(adze_status code, const char *fmt, va_list ap)
{
    char text[MESSAGE_BYTES], old[MESSAGE_BYTES];
    memcpy(old, message, sizeof old);
    vsnprintf(text, sizeof text, fmt, ap);
    size_t n = strlen(text), room = sizeof message - 1 - n, tail = strlen(old) + 2;
    memcpy(message, text, n + 1);
    if (room < 2) return code;
    memcpy(message + n, ": ", 2);
    if (tail > room) tail = room;
    memcpy(message + n + 2, old, tail - 2);
    message[n + tail] = 0;
    return code;
}

adze_status adze_fail_prefix(adze_status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    adze_vfail_prefix(code, fmt, ap);
    va_end(ap);
    return code;
}

const char *adze_error_message(void)
{
    return message;
}

int adze_status_exit_code(adze_status code)
{
    switch (code) {
    case ADZE_OK: return 0;
    case ADZE_EINVAL: return 2;
    case ADZE_EINPUT: return 3;
    case ADZE_ENOMEM:
    case ADZE_EIO:
    case ADZE_EBACKEND: return 4;
    case ADZE_EINTERRUPTED: return 130;
    case ADZE_ESHAPE:
    case ADZE_ENUMERIC:
    case ADZE_EINTERNAL: return 5;
    }
    return 5;
}

const char *adze_status_name(adze_status code)
{
    switch (code) {
    case ADZE_OK: return "ok";
    case ADZE_EINVAL: return "invalid argument";
    case ADZE_EINPUT: return "bad input";
    case ADZE_ENOMEM: return "out of memory";
    case ADZE_EIO: return "write failed";
    case ADZE_EBACKEND: return "device";
    case ADZE_ESHAPE: return "shape";
    case ADZE_ENUMERIC: return "not a number";
    case ADZE_EINTERNAL: return "internal";
    case ADZE_EINTERRUPTED: return "interrupted";
    }
    return "unknown";
}
