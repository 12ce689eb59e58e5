/* interrupt.c - SIGINT and SIGTERM. Entry: adze_interrupt_install().
 * A signal handler has no argument of ours: its flag is the one global of core/. */
#include "core/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}

adze_status adze_interrupt_install(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGINT, &action, NULL) != 0 || sigaction(SIGTERM, &action, NULL) != 0)
        return adze_fail(ADZE_EINTERNAL, "signal handler: %s", strerror(errno));
    return ADZE_OK;
}

bool adze_interrupted(void)
{
    return interrupted != 0;
}
