/* interrupt.h - SIGINT and SIGTERM as a question that long work asks between steps.
 *
 * Only programs install the handler. The library takes the question as a callback (adze_interrupt_query) and leaves with
 * ADZE_EINTERRUPTED. A second signal ends the process at once. */
#ifndef ADZE_CORE_INTERRUPT_H
#define ADZE_CORE_INTERRUPT_H

#include <stdbool.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef bool (*adze_interrupt_query)(void); /* NULL: never interrupted */

adze_status adze_interrupt_install(void);
/* True once one of the signals has come. */
bool adze_interrupted(void);

#ifdef __cplusplus
}
#endif
#endif
