/* cusim_report.c - schedules, and failed checks: printed, counted, kept. Entry: cusim_report(). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cusim_impl.h"

static int64_t n_errors;
static char first_error[512];

/* The environment's choice; a wrong one is told and ignored. */
__attribute__((constructor)) static void read_environment(void)
{
    const char *schedule = getenv("ADZE_CUSIM_SCHEDULE"), *checks = getenv("ADZE_CUSIM_CHECKS");
    if (schedule && !cusim_set_schedule(schedule))
        cusim_report("ADZE_CUSIM_SCHEDULE=%s: want forward, reverse, warps or random:SEED", schedule);
    if (checks && !cusim_set_checks(checks)) cusim_report("ADZE_CUSIM_CHECKS=%s: want off, fast or full", checks);
}

bool cusim_set_checks(const char *checks)
{
    static const char *const names[] = {[CUSIM_CHECKS_OFF] = "off", [CUSIM_CHECKS_FAST] = "fast", [CUSIM_CHECKS_FULL] = "full"};
    for (int i = 0; i < 3; i++)
        if (strcmp(checks, names[i]) == 0) {
            if (cusim_the_checks == CUSIM_CHECKS_OFF && i != CUSIM_CHECKS_OFF) cusim_assume_initialised();
            cusim_the_checks = (cusim_checks)i;
            return true;
        }
    return false;
}

bool cusim_set_schedule(const char *schedule)
{
    static const char *const names[] = {[CUSIM_FORWARD] = "forward", [CUSIM_REVERSE] = "reverse", [CUSIM_WARPS] = "warps"};
    for (int i = 0; i < 3; i++)
        if (strcmp(schedule, names[i]) == 0) {
            cusim_the_schedule = (cusim_schedule){.order = (cusim_order)i};
            return true;
        }
    char *end;
    if (strncmp(schedule, "random:", 7) != 0 || schedule[7] == '\0') return false;
    uint64_t seed = strtoull(schedule + 7, &end, 10);
    if (*end) return false;
    cusim_the_schedule = (cusim_schedule){.order = CUSIM_RANDOM, .seed = seed};
    return true;
}

void cusim_report(const char *fmt, ...)
{
    char text[sizeof first_error];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fprintf(stderr, "cusim: %s\n", text);
    if (n_errors++ == 0) memcpy(first_error, text, sizeof text);
}

int64_t cusim_error_count(void) { return n_errors; }

const char *cusim_first_error(void) { return first_error; }

void cusim_clear(void)
{
    n_errors = 0;
    first_error[0] = '\0';
    cusim_revive_device();
}
