/* bench_main.c - the frame of a measuring program. Entry: bench_main(). */
#include "bench/bench_main.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static adze_status print_help(const bench_program *p, const adze_options *o)
{
    adze_text text = ADZE_TEXT_EMPTY;
    adze_status st = adze_options_help(o, p->usage, p->about, p->examples, &text);
    if (st == ADZE_OK) fputs(text.s, stdout);
    adze_text_destroy(&text);
    return st;
}

static bool has_version(const bench_program *p)
{
    for (size_t i = 0; i < p->n_options; i++)
        if (strcmp(p->table[i].name, "version") == 0) return true;
    return false;
}

int bench_main(const bench_program *p, int argc, char **argv)
{
    adze_status st = ADZE_OK;
    adze_options *o = NULL;
    TRY(adze_options_create(&o));
    TRY(adze_options_add(o, p->table, p->n_options));
    TRY(adze_options_parse(o, argc, argv, p->max_args));
    if (adze_options_flag(o, "help")) TRY(print_help(p, o));
    else if (has_version(p) && adze_options_flag(o, "version")) printf("%s %s\n", p->name, ADZE_VERSION);
    else TRY(p->run(o));
done:
    adze_options_destroy(o);
    if (st != ADZE_OK) fprintf(stderr, "%s: %s\n", p->name, adze_error_message());
    return adze_status_exit_code(st);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void bench_sort(double *x, int64_t n) { qsort(x, (size_t)n, sizeof *x, by_value); }
