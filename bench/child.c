/* child.c - running another program. Entry: child_run().
 * It gets a process group of its own: Ctrl-C would else reach it twice, and the second one means "at once". */
#include "bench/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/interrupt.h"

/* In the new process: never returns. */
static void become(char *const *argv, const char *log, pid_t parent)
{
    int file = log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() == parent && (!log || (file >= 0 && dup2(file, 1) == 1 && dup2(file, 2) == 2))) {
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        execv(argv[0], argv);
    }
    _exit(127);
}

adze_status child_run(char *const *argv, const char *log, int *code)
{
    int status;
    bool asked = false;
    fflush(stdout);
    fflush(stderr);
    pid_t parent = getpid(), child = fork();
    if (child < 0) return adze_fail(ADZE_EINTERNAL, "%s: %s", argv[0], strerror(errno));
    if (child == 0) {
        setpgid(0, 0);
        become(argv, log, parent);
    }
    setpgid(child, child); /* both do it: whoever comes first */
    for (;;) {
        if (adze_interrupted() && !asked) asked = kill(child, SIGINT) == 0;
        pid_t ended = waitpid(child, &status, WNOHANG);
        if (ended == child) break;
        if (ended < 0 && errno != EINTR) return adze_fail(ADZE_EINTERNAL, "%s: %s", argv[0], strerror(errno));
        usleep(20000); /* ends early with a signal */
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) return adze_fail(ADZE_EINTERNAL, "%s could not be started", argv[0]);
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : 5;
    return ADZE_OK;
}
