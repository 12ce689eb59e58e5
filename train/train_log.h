/* train_log.h - RUN/CLASS/train.csv: epoch,step,lr,loss,<loss terms>,images_per_s,elapsed_s; one row at a time, at once on its
 * way to the disk. */
#ifndef ADZE_TRAIN_TRAIN_LOG_H
#define ADZE_TRAIN_TRAIN_LOG_H

#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adze_train_log adze_train_log; /* opaque: owns the open file */

/* Steps and epochs done so far, counted from 1. */
typedef struct {
    int64_t epoch, step;
    double lr, loss;
    const double *term; /* as many as the log has terms */
    double images_per_s, elapsed_s;
} adze_train_row;

/* last_step < 0: a new file, whatever was there. Otherwise rows of steps <= last_step are kept, later and torn ones cut off; a
 * missing file begins anew. ADZE_EINPUT: the file's columns are others; ADZE_EINVAL: a term's name is empty or has other
 * characters than letters, digits and ._-/ or begins with a sign; ADZE_EIO. */
adze_status adze_train_log_open(adze_train_log **out, const char *path, const char *const *term, int n_terms, int64_t last_step);
void adze_train_log_close(adze_train_log *log); /* NULL is fine */
/* Numbers keep nine digits: a float32 comes back exactly. */
adze_status adze_train_log_row(adze_train_log *log, const adze_train_row *row);
/* elapsed_s of the last kept row, 0 if there was none: what a resumed run adds to its own time. */
double adze_train_log_elapsed_s(const adze_train_log *log);

#ifdef __cplusplus
}
#endif
#endif
