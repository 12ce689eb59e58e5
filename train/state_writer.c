/* state_writer.c - writing the state beside the training. Entry: adze_state_writer_put().
 * One thread per file: it lives for a fraction of a second and a file comes once an epoch. */
#include "train/state_writer.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "checkpoints/hdf5_file.h"
#include "core/memory.h"

struct adze_state_writer {
    char *path;            /* owned, as below */
    float *numbers;
    int64_t *optim_steps;
    adze_train_state copy; /* what the thread reads */
    pthread_t thread;
    bool running;
    adze_status status;    /* of the file, once the thread has ended */
    char message[512];
};

static size_t copy_bytes(const adze_train_state *s) { return (size_t)adze_train_state_floats(s) * sizeof(float); }

size_t adze_state_writer_bytes(const adze_train_state *s)
{
    return copy_bytes(s) + adze_h5_writer_bytes(adze_train_state_tensors(s));
}

adze_status adze_state_writer_create(adze_state_writer **out, const adze_train_state *s, const char *path)
{
    adze_status st = ADZE_OK;
    *out = NULL;
    adze_state_writer *w = adze_calloc(1, sizeof *w);
    REQUIRE(w, ADZE_ENOMEM, "training state: %zu host bytes", sizeof *w);
    REQUIRE(w->path = adze_strdup(path), ADZE_ENOMEM, "training state: no memory for a path");
    w->numbers = adze_malloc(copy_bytes(s));
    w->optim_steps = adze_calloc((size_t)s->n_optims + 1, sizeof *w->optim_steps);
    REQUIRE(w->numbers && w->optim_steps, ADZE_ENOMEM, "training state: %zu host bytes for a copy", copy_bytes(s));
    *out = w;
    w = NULL;
done:
    adze_state_writer_destroy(w);
    return st;
}

void adze_state_writer_destroy(adze_state_writer *w)
{
    if (!w) return;
    if (w->running) pthread_join(w->thread, NULL);
    adze_free(w->path);
    adze_free(w->numbers);
    adze_free(w->optim_steps);
    adze_free(w);
}

static void *write_file(void *arg)
{
    adze_state_writer *w = arg;
    w->status = adze_train_state_write(&w->copy, w->path);
    if (w->status != ADZE_OK) snprintf(w->message, sizeof w->message, "%s", adze_error_message()); /* it belongs to this thread */
    return NULL;
}

adze_status adze_state_writer_wait(adze_state_writer *w)
{
    if (!w->running) return ADZE_OK;
    pthread_join(w->thread, NULL);
    w->running = false;
    return w->status == ADZE_OK ? ADZE_OK : adze_fail(w->status, "%s", w->message);
}

adze_status adze_state_writer_put(adze_state_writer *w, const adze_train_state *s)
{
    adze_status st = ADZE_OK;
    sigset_t all, before;
    TRY(adze_state_writer_wait(w));
    w->copy = *s;
    TRY(adze_train_state_copy(s, w->numbers, w->optim_steps));
    w->copy.numbers = w->numbers;
    w->copy.optim_steps = w->optim_steps;
    sigfillset(&all); /* signals are for the thread that trains */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int bad = pthread_create(&w->thread, NULL, write_file, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    REQUIRE(bad == 0, ADZE_EBACKEND, "training state: no thread to write it: %s", strerror(bad));
    w->running = true;
done:
    return st;
}
