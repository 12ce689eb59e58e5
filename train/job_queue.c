/* job_queue.c - jobs side by side in processes. Entry: job_queue_run().
 * A job writes its status and its text into a pipe and leaves; the queue reads until the pipe closes. Each job leads a process
 * group of its own: Ctrl-C reaches it once, through the queue, not a second time from the terminal, which would end it at once. */
#include "train/job_queue.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/interrupt.h"
#include "core/memory.h"

/* A job in work. */
typedef struct {
    int64_t job;
    pid_t pid;
    int fd; /* to read from; -1: a free place */
    double started;
    adze_text got; /* the status in the first bytes */
} place;

enum { WAIT_MS = 100 }; /* how soon an interruption is seen that came just before the wait */

static bool write_all(int fd, const void *data, size_t n_bytes)
{
    for (const char *p = data; n_bytes > 0;) {
        ssize_t n = write(fd, p, n_bytes);
        if (n < 0 && errno != EINTR) return false;
        if (n > 0) p += n, n_bytes -= (size_t)n;
    }
    return true;
}

/* The new process: never returns. */
static void be_job(const job_queue *q, int64_t i, int fd, pid_t parent)
{
    adze_text text = ADZE_TEXT_EMPTY;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    adze_status st = getppid() == parent ? q->work(q->user, i, &text) : ADZE_EINTERRUPTED;
    if (st == ADZE_OK) st = adze_text_check(&text, "a job's text");
    const char *say = st == ADZE_OK ? (text.s ? text.s : "") : adze_error_message();
    bool told = write_all(fd, &st, sizeof st) && write_all(fd, say, strlen(say));
    close(fd);
    adze_text_destroy(&text);
    exit(told ? 0 : 1);
}

static adze_status start(const job_queue *q, int64_t i, place *p)
{
    adze_status st = ADZE_OK;
    int fd[2] = { -1, -1 };
    REQUIRE(pipe(fd) == 0, ADZE_EINTERNAL, "a pipe for job %" PRId64 ": %s", i, strerror(errno));
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    REQUIRE(pid >= 0, ADZE_ENOMEM, "a process for job %" PRId64 ": %s", i, strerror(errno));
    if (pid == 0) {
        close(fd[0]);
        be_job(q, i, fd[1], parent);
    }
    setpgid(pid, pid); /* whichever of the two comes first */
    *p = (place){ .job = i, .pid = pid, .fd = fd[0], .started = adze_clock_seconds(), .got = ADZE_TEXT_EMPTY };
    fd[0] = -1;
done:
    if (fd[0] >= 0) close(fd[0]);
    if (fd[1] >= 0) close(fd[1]);
    return st;
}

/* Takes the dead job out of its place. */
static void finish(place *p, job_end *end)
{
    int status = 0;
    while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR) continue;
    close(p->fd);
    p->fd = -1;
    *end = (job_end){ .status = ADZE_EINTERNAL, .text = ADZE_TEXT_EMPTY, .seconds = adze_clock_seconds() - p->started };
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && p->got.n_bytes >= sizeof end->status && !p->got.failed) {
        memcpy(&end->status, p->got.s, sizeof end->status);
        adze_text_append_n(&end->text, p->got.s + sizeof end->status, p->got.n_bytes - sizeof end->status);
    } else if (WIFSIGNALED(status))
        adze_text_printf(&end->text, "its process was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else adze_text_printf(&end->text, "its process ended with status %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    adze_text_destroy(&p->got);
}

/* Takes what the job says; false when it has closed its pipe. */
static bool still_talks(place *p)
{
    char buffer[4096];
    ssize_t n = read(p->fd, buffer, sizeof buffer);
    if (n > 0) adze_text_append_n(&p->got, buffer, (size_t)n);
    return n > 0 || (n < 0 && errno == EINTR);
}

static void signal_all(const place *places, int64_t n, int number)
{
    for (int64_t k = 0; k < n; k++)
        if (places[k].fd >= 0) kill(places[k].pid, number);
}

adze_status job_queue_run(const job_queue *q, job_end *end)
{
    adze_status st = ADZE_OK;
    int64_t next = 0, working = 0, slots = q->at_once < q->n ? q->at_once : q->n;
    bool told = false;
    for (int64_t i = 0; i < q->n; i++) end[i] = (job_end){ .status = ADZE_EINTERRUPTED, .text = ADZE_TEXT_EMPTY };
    place *places = adze_calloc((size_t)slots, sizeof *places);
    struct pollfd *polls = adze_calloc((size_t)slots, sizeof *polls);
    if (!places || !polls) st = adze_fail(ADZE_ENOMEM, "a queue of %" PRId64 " jobs", slots);
    for (int64_t k = 0; k < slots && st == ADZE_OK; k++) places[k].fd = -1;
    while (working > 0 || (next < q->n && st == ADZE_OK && !told)) {
        if (!told && (adze_interrupted() || st != ADZE_OK)) {
            told = true;
            signal_all(places, slots, SIGINT);
        }
        for (int64_t k = 0; k < slots && next < q->n && !told && st == ADZE_OK; k++) {
            if (places[k].fd >= 0) continue;
            st = start(q, next, &places[k]);
            if (st == ADZE_OK) next++, working++;
        }
        for (int64_t k = 0; k < slots; k++) polls[k] = (struct pollfd){ .fd = places[k].fd, .events = POLLIN };
        if (poll(polls, (nfds_t)slots, WAIT_MS) <= 0) continue;
        for (int64_t k = 0; k < slots; k++) {
            if (places[k].fd < 0 || polls[k].revents == 0 || still_talks(&places[k])) continue;
            finish(&places[k], &end[places[k].job]);
            working--;
            if (q->ended) q->ended(q->user, places[k].job, &end[places[k].job]);
        }
    }
    adze_free(places);
    adze_free(polls);
    return st == ADZE_OK && adze_interrupted() ? adze_fail(ADZE_EINTERRUPTED, "interrupted") : st;
}

void job_queue_free(job_end *end, int64_t n)
{
    for (int64_t i = 0; i < n && end; i++) adze_text_destroy(&end[i].text);
}
