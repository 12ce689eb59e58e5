/* append_file.c - growing files. Entry: adze_append_file_open(). */
#include "train/append_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"

adze_status adze_append_file_open(adze_append_file *f, const char *path, size_t keep_bytes)
{
    adze_status st = ADZE_OK;
    *f = ADZE_APPEND_FILE_CLOSED;
    REQUIRE(f->path = adze_strdup(path), ADZE_ENOMEM, "%s: no memory for the name", path);
    f->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    REQUIRE(f->fd >= 0, ADZE_EIO, "%s: cannot open for writing: %s", path, strerror(errno));
    REQUIRE(ftruncate(f->fd, (off_t)keep_bytes) == 0, ADZE_EIO, "%s: cannot cut to %zu bytes: %s", path, keep_bytes,
            strerror(errno));
done:
    if (st != ADZE_OK) adze_append_file_close(f);
    return st;
}

adze_status adze_append_file_write(adze_append_file *f, const void *data, size_t n_bytes)
{
    const char *p = data;
    while (n_bytes > 0) {
        ssize_t n = write(f->fd, p, n_bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return adze_fail(ADZE_EIO, "%s: cannot write %zu bytes: %s", f->path, n_bytes, strerror(errno));
        p += n;
        n_bytes -= (size_t)n;
    }
    return ADZE_OK;
}

void adze_append_file_close(adze_append_file *f)
{
    if (f->fd >= 0) close(f->fd);
    adze_free(f->path);
    *f = ADZE_APPEND_FILE_CLOSED;
}
