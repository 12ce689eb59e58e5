/* state_writer.h - writes the state of a training while the training goes on: the state is copied, and a thread of its own
 * writes, syncs and renames the file. */
#ifndef ADZE_TRAIN_STATE_WRITER_H
#define ADZE_TRAIN_STATE_WRITER_H

#include "train/train_state.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adze_state_writer adze_state_writer; /* opaque: owns the copy and the thread */

/* Host memory of the copy, and of the file while it is written. */
size_t adze_state_writer_bytes(const adze_train_state *s);
/* Room for a copy of `s`, whose objects, texts and names must outlive the writer. `path` is copied. ADZE_ENOMEM. */
adze_status adze_state_writer_create(adze_state_writer **out, const adze_train_state *s, const char *path);
/* Waits for a file that is still being written; an unnoticed failure of it is lost. NULL is fine. */
void adze_state_writer_destroy(adze_state_writer *w);

/* Copies `s`, which differs from the one at create in numbers only, and begins to write it. A file that is still being
 * written is waited for; if that one failed, its error is returned and nothing is begun. ADZE_EBACKEND: no thread. */
adze_status adze_state_writer_put(adze_state_writer *w, const adze_train_state *s);
/* Waits for the file and returns how it went; ADZE_OK if there is none. */
adze_status adze_state_writer_wait(adze_state_writer *w);

#ifdef __cplusplus
}
#endif
#endif
