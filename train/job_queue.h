/* job_queue.h - jobs side by side, each in a process of its own: one that fails or crashes does not stop the others. */
#ifndef ADZE_TRAIN_JOB_QUEUE_H
#define ADZE_TRAIN_JOB_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "core/text.h"

/* How a job ended. */
typedef struct {
    adze_status status;  /* ADZE_EINTERNAL if its process crashed; ADZE_EINTERRUPTED also if it never began */
    adze_text text;      /* of status ADZE_OK: what it gave back; otherwise its error message */
    double seconds;
} job_end;

typedef struct {
    int64_t n, at_once;  /* at least 1 each */
    /* Job i, in a new process that inherits everything; `text` and the status go back. Output streams are flushed after it. */
    adze_status (*work)(void *user, int64_t i, adze_text *text);
    /* In the caller's process, each time a job ends; may be NULL. */
    void (*ended)(void *user, int64_t i, const job_end *end);
    void *user;
} job_queue;

/* Runs all jobs in order, at most `at_once` at a time, and fills end[n]; job_queue_free() gives the texts back. To be called
 * before the process has threads. When adze_interrupted(), the jobs in work get SIGINT, no other begins, and the return value
 * is ADZE_EINTERRUPTED. A job does not outlive the caller.
 * Otherwise ADZE_OK whatever the ends; ADZE_ENOMEM or ADZE_EINTERNAL where no process could be made. */
adze_status job_queue_run(const job_queue *q, job_end *end);
void job_queue_free(job_end *end, int64_t n);

#endif
