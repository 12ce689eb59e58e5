/* file.c - bounded reading, atomic writing. Entry: adze_file_read(), adze_file_write(). */
#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/memory.h"

adze_status adze_file_read(const char *path, size_t limit_bytes, unsigned char **data, size_t *n_bytes)
{
    adze_status st = ADZE_OK;
    unsigned char *p = NULL;
    *data = NULL;
    *n_bytes = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0, ADZE_EINPUT, "%s: cannot open: %s", path, strerror(errno));
    struct stat info;
    REQUIRE(fstat(fd, &info) == 0, ADZE_EINPUT, "%s: cannot stat: %s", path, strerror(errno));
    REQUIRE(S_ISREG(info.st_mode), ADZE_EINPUT, "%s: not a regular file", path);
    REQUIRE((uint64_t)info.st_size <= limit_bytes, ADZE_EINPUT, "%s: %lld bytes, the limit is %zu", path,
            (long long)info.st_size, limit_bytes);
    size_t want = (size_t)info.st_size, have = 0;
    REQUIRE(p = adze_malloc(want + 1), ADZE_ENOMEM, "%s: %zu host bytes", path, want + 1);
    while (have < want) {
        ssize_t n = read(fd, p + have, want - have);
        if (n < 0 && errno == EINTR) continue;
        REQUIRE(n >= 0, ADZE_EINPUT, "%s: cannot read: %s", path, strerror(errno));
        REQUIRE(n > 0, ADZE_EINPUT, "%s: shrank to %zu bytes while it was read", path, have);
        have += (size_t)n;
    }
    p[want] = 0;
    *data = p;
    *n_bytes = want;
    p = NULL;
done:
    adze_free(p);
    if (fd >= 0) close(fd);
    return st;
}

adze_status adze_file_begin(const char *path, char **tmp_path)
{
    *tmp_path = adze_strprintf("%s.tmp", path);
    if (!*tmp_path) return adze_fail(ADZE_ENOMEM, "%s: no memory for the name", path);
    return ADZE_OK;
}

static adze_status sync_path(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) return adze_fail(ADZE_EIO, "%s: cannot open: %s", path, strerror(errno));
    int bad = fsync(fd);
    int why = errno;
    close(fd);
    if (bad) return adze_fail(ADZE_EIO, "%s: cannot sync: %s", path, strerror(why));
    return ADZE_OK;
}

adze_status adze_file_commit(const char *tmp_path, const char *path)
{
    adze_status st = ADZE_OK;
    char *dir = NULL;
    TRY(sync_path(tmp_path, O_RDONLY));
    REQUIRE(rename(tmp_path, path) == 0, ADZE_EIO, "%s: cannot rename to %s: %s", tmp_path, path, strerror(errno));
    REQUIRE(dir = adze_strdup(path), ADZE_ENOMEM, "%s: no memory for the folder's name", path);
    char *slash = strrchr(dir, '/');
    if (slash == dir) slash[1] = 0;
    else if (slash) *slash = 0;
    TRY(sync_path(slash ? dir : ".", O_RDONLY | O_DIRECTORY));
done:
    adze_free(dir);
    return st;
}

void adze_file_discard(const char *tmp_path)
{
    if (tmp_path) unlink(tmp_path);
}

adze_status adze_file_write(const char *path, const void *data, size_t n_bytes)
{
    adze_status st = ADZE_OK;
    char *tmp = NULL;
    FILE *f = NULL;
    TRY(adze_file_begin(path, &tmp));
    f = fopen(tmp, "wbe");
    REQUIRE(f, ADZE_EIO, "%s: cannot create: %s", tmp, strerror(errno));
    REQUIRE(fwrite(data, 1, n_bytes, f) == n_bytes && fflush(f) == 0, ADZE_EIO, "%s: cannot write %zu bytes: %s", tmp,
            n_bytes, strerror(errno));
    int bad = fclose(f);
    f = NULL;
    REQUIRE(bad == 0, ADZE_EIO, "%s: cannot close: %s", tmp, strerror(errno));
    TRY(adze_file_commit(tmp, path));
done:
    if (f) fclose(f);
    if (st != ADZE_OK) adze_file_discard(tmp);
    adze_free(tmp);
    return st;
}

adze_status adze_folder_create(const char *path)
{
    adze_status st = ADZE_OK;
    char *copy = adze_strdup(path);
    REQUIRE(copy, ADZE_ENOMEM, "%s: no memory for the name", path);
    for (char *p = copy + 1;; p++) {
        if (*p != '/' && *p != 0) continue;
        char kept = *p;
        *p = 0;
        if (mkdir(copy, 0777) != 0 && errno != EEXIST) {
            st = adze_fail(ADZE_EIO, "%s: cannot create the folder: %s", copy, strerror(errno));
            goto done;
        }
        *p = kept;
        if (kept == 0) break;
    }
    REQUIRE(adze_folder_exists(path), ADZE_EIO, "%s: exists and is not a folder", path);
done:
    adze_free(copy);
    return st;
}

void adze_folder_remove_leftovers(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *e;
    while (dir && (e = readdir(dir))) {
        size_t n = strlen(e->d_name);
        if (n > 4 && strcmp(e->d_name + n - 4, ".tmp") == 0) unlinkat(dirfd(dir), e->d_name, 0);
    }
    if (dir) closedir(dir);
}

adze_status adze_folder_lock(const char *path, bool wait, int *lock)
{
    int bad;
    *lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock < 0) return adze_fail(ADZE_EIO, "%s: cannot open the folder: %s", path, strerror(errno));
    do bad = flock(*lock, wait ? LOCK_EX : LOCK_EX | LOCK_NB);
    while (bad != 0 && errno == EINTR);
    if (bad == 0) return ADZE_OK;
    int why = errno;
    adze_folder_unlock(*lock);
    *lock = -1;
    return why == EWOULDBLOCK ? adze_fail(ADZE_EIO, "%s: another process is writing there; wait for its end, or give another folder", path) : ADZE_OK;
}

void adze_folder_unlock(int lock)
{
    if (lock >= 0) close(lock);
}

bool adze_file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool adze_folder_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

const char *adze_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *adze_path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') n--;
    if (n == 0) return adze_strdup(name);
    return adze_strprintf("%.*s%s%s", (int)n, dir, dir[n - 1] == '/' ? "" : "/", name);
}

adze_status adze_program_folder(char **out)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    *out = NULL;
    if (n <= 0) return adze_fail(ADZE_EINTERNAL, "cannot tell where this program lies: %s", strerror(errno));
    path[n] = 0;
    *strrchr(path, '/') = 0;
    *out = adze_strdup(path);
    return *out ? ADZE_OK : adze_fail(ADZE_ENOMEM, "no memory for a path");
}
