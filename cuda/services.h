/* services.h - the library's services inside a loaded backend (services.c defines adze_fail, adze_malloc ... by them). */
#ifndef ADZE_CUDA_SERVICES_H
#define ADZE_CUDA_SERVICES_H

#include <stdbool.h>

#include "core/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Keeps the table for the process; false if it is not what this backend was built for. */
bool adze_services_set(const adze_services *services);

#ifdef __cplusplus
}
#endif
#endif
