/* status.h - result codes, the per-thread error message, and the macros that leave a function.
 *
 * Every function that can fail returns adze_status. The deepest function that knows what went wrong calls
 * adze_fail() with the value got and the value wanted; callers forward the code unchanged. */
#ifndef ADZE_CORE_STATUS_H
#define ADZE_CORE_STATUS_H

#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    ADZE_OK = 0,
    ADZE_EINVAL,       /* an argument or option outside its range: the caller's mistake          exit 2 */
    ADZE_EINPUT,       /* a file, data set, weights file or checkpoint is missing or malformed   exit 3 */
    ADZE_ENOMEM,       /* host or device memory, or the memory limit                             exit 4 */
    ADZE_EIO,          /* writing failed: disk full, no permission                               exit 4 */
    ADZE_EBACKEND,     /* no such device, or a device library refused                            exit 4 */
    ADZE_ESHAPE,       /* shapes that do not fit each other inside the library                   exit 5 */
    ADZE_ENUMERIC,     /* NaN or infinity where there must be none                               exit 5 */
    ADZE_EINTERNAL,    /* our own bug                                                            exit 5 */
    ADZE_EINTERRUPTED  /* stopped on request                                                     exit 130 */
} adze_status;

#if defined(__GNUC__)
#define ADZE_PRINTF(fmt_arg, first_arg) __attribute__((format(printf, fmt_arg, first_arg)))
#else
#define ADZE_PRINTF(fmt_arg, first_arg)
#endif

/* Stores the formatted message for this thread (at most 1023 bytes are kept) and returns `code`. */
adze_status adze_fail(adze_status code, const char *fmt, ...) ADZE_PRINTF(2, 3);

/* The same with the arguments in a list. */
adze_status adze_vfail(adze_status code, const char *fmt, va_list ap) ADZE_PRINTF(2, 0);

/* Puts "prefix: " before this thread's message and returns `code`: for callers that know the file or the item. */
adze_status adze_fail_prefix(adze_status code, const char *fmt, ...) ADZE_PRINTF(2, 3);
adze_status adze_vfail_prefix(adze_status code, const char *fmt, va_list ap) ADZE_PRINTF(2, 0);

/* The message of the last failure on this thread; "" if there was none. Valid until the next failure. */
const char *adze_error_message(void);

/* Exit status of a program that ends with `code` (0, 2, 3, 4, 5 or 130). */
int adze_status_exit_code(adze_status code);

/* Short lower-case name: "ok", "invalid argument", ... */
const char *adze_status_name(adze_status code);

/* TRY and REQUIRE set the local variable `st` and jump to the label `done`. */
#define TRY(call)                     \
    do {                              \
        st = (call);                  \
        if (st != ADZE_OK) goto done; \
    } while (0)

#define REQUIRE(cond, code, ...)               \
    do {                                       \
        if (!(cond)) {                         \
            st = adze_fail(code, __VA_ARGS__); \
            goto done;                         \
        }                                      \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
