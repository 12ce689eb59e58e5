/* test_progress.c - progress on and off a terminal and as JSON, messages, and the interrupt flag. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/interrupt.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/text.h"

static double now; /* the tests' clock */
static double test_clock(void)
{
    return now;
}

static char *written; /* what the last stream got; owned by open_memstream */
static size_t written_bytes;

static FILE *open_stream(void)
{
    FILE *f = open_memstream(&written, &written_bytes);
    assert_non_null(f);
    return f;
}

static adze_progress *new_progress(FILE *f, adze_output output, bool is_terminal)
{
    adze_progress *p;
    const adze_progress_opts opts = { .file = f, .output = output, .is_terminal = is_terminal, .clock = test_clock };
    now = 100.0;
    assert_int_equal(adze_progress_create(&p, &opts), ADZE_OK);
    return p;
}

static int count_of(const char *s, const char *what)
{
    int n = 0;
    for (; (s = strstr(s, what)); s += strlen(what)) n++;
    return n;
}

static void plain_lines_come_every_ten_seconds(void **state)
{
    (void)state;
    FILE *f = open_stream();
    adze_progress *p = new_progress(f, ADZE_OUTPUT_TEXT, false);
    adze_progress_begin(p, "fit pcb", "images", 0, 400);
    assert_memory_equal(written, "fit pcb: 0/400 images  0:00", 27); /* at once */
    for (int i = 1; i <= 300; i++) {
        now = 100.0 + 0.1 * i;
        adze_progress_value(p, "loss", 1.0 / i);
        adze_progress_update(p, i);
    }
    assert_int_equal(count_of(written, "\n"), 4); /* begin, 10 s, 20 s, 30 s */
    assert_non_null(strstr(written, "300/400 images  10/s  0:30  left 0:10  loss 0.003333"));
    adze_progress_update(p, 400);
    now += 3700;
    adze_progress_end(p);
    adze_progress_end(p);
    assert_int_equal(count_of(written, "\n"), 5);
    assert_non_null(strstr(written, "fit pcb: 400/400 images  0.107/s  in 1:02:10  loss 0.003333"));
    adze_progress_destroy(p);
    fclose(f);
    assert_null(strchr(written, '\r'));
    free(written);
}

static void terminal_line_is_redrawn_five_times_a_second(void **state)
{
    (void)state;
    FILE *f = open_stream();
    adze_progress *p = new_progress(f, ADZE_OUTPUT_TEXT, true);
    adze_progress_begin(p, "score", "images", 50, 100);
    for (int i = 1; i <= 1000; i++) {
        now = 100.0 + i / 1024.0; /* exact: no update falls beside its moment */
        adze_progress_update(p, 50 + i / 40);
    }
    assert_in_range(count_of(written, "\r"), 5, 6);
    assert_non_null(strstr(written, "\rscore  [##########..........]  50%  50/100 images"));
    assert_null(strchr(written, '\n'));
    for (const char *line = written + 1; line; line = strchr(line, '\r') ? strchr(line, '\r') + 1 : NULL)
        assert_true(strcspn(line, "\x1b") < 80); /* no terminal behind it: 80 columns are taken */

    const adze_log log = { .file = f, .program = "adze-test", .progress = p };
    adze_log_write(&log, ADZE_LOG_WARNING, "odd file %s", "a\x1b[2Jb.png");
    assert_non_null(strstr(written, "\r\x1b[K" "adze-test: warning: odd file a?[2Jb.png\n"));
    int lines = count_of(written, "score  [");
    adze_progress_update(p, 80); /* drawn again at once */
    assert_int_equal(count_of(written, "score  ["), lines + 1);
    adze_progress_destroy(p); /* ends the task */
    fclose(f);
    assert_non_null(strstr(written, "\r\x1b[K" "score: 80/100 images  30.7/s  in 0:01"));
    assert_int_equal(written[written_bytes - 1], '\n');
    free(written);
}

static void json_lines_parse(void **state)
{
    (void)state;
    FILE *f = open_stream();
    adze_progress *p = new_progress(f, ADZE_OUTPUT_JSON, true);
    const adze_log log = { .file = f, .output = ADZE_OUTPUT_JSON, .progress = p };
    adze_progress_begin(p, "fit \"a\"\n\xff\xc3\xa9", "images", 0, 0);
    now += 2.0;
    adze_progress_value(p, "loss", INFINITY); /* JSON has no such number */
    adze_progress_update(p, 10);
    adze_log_write(&log, ADZE_LOG_INFO, "tab\there");
    adze_progress_destroy(p);
    fclose(f);
    assert_int_equal(count_of(written, "\n"), 4);
    int n = 0;
    for (char *rest = written, *line; (line = strsep(&rest, "\n")) && *line; n++) {
        json_error_t why;
        json_t *j = json_loads(line, 0, &why);
        assert_non_null(j);
        if (n == 1) {
            assert_string_equal(json_string_value(json_object_get(j, "progress")), "fit \"a\"\n\xef\xbf\xbd\xc3\xa9");
            assert_true(json_number_value(json_object_get(j, "per_s")) == 5.0);
            assert_true(json_is_null(json_object_get(j, "total")) && json_is_null(json_object_get(j, "loss")));
        }
        if (n == 2) assert_string_equal(json_string_value(json_object_get(j, "message")), "tab\there");
        json_decref(j);
    }
    assert_int_equal(n, 4);
    free(written);
}

static int sunk;
static void sink(void *user, adze_log_level level, const char *message)
{
    assert_string_equal((const char *)user, "me");
    assert_string_equal(message, "7 things");
    assert_string_equal(adze_log_level_name(level), "info");
    sunk++;
}

static void quiet_keeps_errors_only(void **state)
{
    (void)state;
    FILE *f = open_stream();
    adze_progress *p = new_progress(f, ADZE_OUTPUT_QUIET, true);
    const adze_log log = { .file = f, .output = ADZE_OUTPUT_QUIET, .progress = p };
    adze_progress_begin(p, "fit", "images", 0, 4);
    now += 50;
    adze_progress_update(p, 3);
    adze_log_write(&log, ADZE_LOG_WARNING, "hm");
    adze_log_write(&log, ADZE_LOG_ERROR, "no");
    adze_progress_destroy(p);
    fclose(f);
    assert_string_equal(written, "error: no\n");
    free(written);

    const adze_log to_sink = { .least = ADZE_LOG_INFO, .sink = sink, .user = "me" };
    adze_log_write(&to_sink, ADZE_LOG_DEBUG, "dropped");
    adze_log_write(&to_sink, ADZE_LOG_INFO, "%d things", 7);
    adze_log_write(NULL, ADZE_LOG_ERROR, "nowhere");
    assert_int_equal(sunk, 1);
    adze_progress_begin(NULL, "a", "b", 0, 1);
    adze_progress_value(NULL, "a", 1);
    adze_progress_update(NULL, 1);
    adze_progress_clear(NULL);
    adze_progress_destroy(NULL);
}

static void lost_memory_loses_a_line_only(void **state)
{
    (void)state;
    FILE *f = open_stream();
    adze_progress *p = new_progress(f, ADZE_OUTPUT_JSON, false);
    adze_memory_fail_after(1, true);
    adze_progress_begin(p, "fit", "images", 0, 4);
    adze_progress *none;
    const adze_progress_opts opts = { .file = f };
    assert_int_equal(adze_progress_create(&none, &opts), ADZE_ENOMEM);
    assert_null(none);
    adze_memory_fail_after(0, false);
    adze_progress_destroy(p);
    fclose(f);
    assert_int_equal(count_of(written, "\n"), 1);
    free(written);
}

static void clock_goes_forward(void **state)
{
    (void)state;
    double a = adze_clock_seconds(), b = adze_clock_seconds();
    assert_true(b >= a && a > 0.0);
}

/* In a child: the first signal sets the flag, the second one kills. */
static void second_signal_ends_at_once(void **state)
{
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (adze_interrupt_install() != ADZE_OK || adze_interrupted()) _exit(1);
        raise(SIGTERM);
        if (!adze_interrupted()) _exit(2);
        raise(SIGINT);
        _exit(3);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    assert_false(adze_interrupted());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_lines_come_every_ten_seconds),
        cmocka_unit_test(terminal_line_is_redrawn_five_times_a_second),
        cmocka_unit_test(json_lines_parse),
        cmocka_unit_test(quiet_keeps_errors_only),
        cmocka_unit_test(lost_memory_loses_a_line_only),
        cmocka_unit_test(clock_goes_forward),
        cmocka_unit_test(second_signal_ends_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
