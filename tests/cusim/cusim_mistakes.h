/* cusim_mistakes.h - programs with one mistake each, and without it. */
#ifndef CUSIM_MISTAKES_H
#define CUSIM_MISTAKES_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const char *name;
    const char *report;    /* what the failed check says, among other things */
    void (*run)(bool right);
} cusim_mistake;

extern const cusim_mistake cusim_mistakes[];
extern const size_t cusim_n_mistakes;

#ifdef __cplusplus
}
#endif
#endif
