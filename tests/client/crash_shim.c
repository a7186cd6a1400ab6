/* Preloaded into a process under test: what a crash or a failing disk does to the files of one folder.
 *
 * Every call that changes a file there (write, pwrite64, writev, ftruncate, fsync, fdatasync, rename,
 * link, unlink) is numbered from 0. `crash_at` makes one of them the last: the process is killed
 * before it, half way through it where it writes, or it fails, once or from then on. `crash_log`
 * writes each into a file, with its bytes. Calls of other files pass.
 *
 * The calls are libc's; the suite has strace count the kernel's, which must be as many.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { KILL = 0, TEAR = -1 }; /* other values of `how` are errno; negative: from then on */

static char folder[PATH_MAX];
static size_t folder_size;
static long calls, fatal = -1;
static int how, log_file = -1;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL)
        abort();
    return found;
}

static int inside(const char *path)
{
    return folder_size && strncmp(path, folder, folder_size) == 0 &&
           (path[folder_size] == 0 || path[folder_size] == '/');
}

/* The path of an open file in the folder; 0 for any other. */
static int path_of(int fd, char *path)
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = folder_size ? readlink(link, path, PATH_MAX - 1) : -1;
    if (size < 0)
        return 0;
    path[size] = 0;
    return inside(path);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* One numbered call: 0 where it may pass, -1 where it fails with errno. */
static int step(int writes)
{
    long number = calls++;
    int error = how < TEAR ? -how : how;
    if (fatal < 0 || number < fatal)
        return 0;
    if (how == KILL)
        die();
    if (how == TEAR || (number > fatal && how > 0) || (how < TEAR && !writes))
        return 0; /* a full disk takes no bytes, but still syncs and unlinks */
    errno = error;
    return -1;
}

static int tears(void)
{
    return how == TEAR && fatal >= 0 && calls == fatal + 1;
}

static void note(char kind, const char *path, long long offset, const void *data, size_t size)
{
    if (log_file < 0)
        return;
    dprintf(log_file, "%c %lld %zu %s\n", kind, offset, size, path);
    for (size_t done = 0; done < size;) {
        ssize_t part = REAL(write)(log_file, (const char *)data + done, size - done);
        if (part < 0)
            abort();
        done += (size_t)part;
    }
}

void crash_watch(const char *path)
{
    snprintf(folder, sizeof folder, "%s", path);
    folder_size = strlen(folder);
}

void crash_log(int fd) { log_file = fd; }

void crash_mark(int number) { note('M', "", number, NULL, 0); }

void crash_at(long number, int what)
{
    calls = 0;
    fatal = number;
    how = what;
}

long crash_calls(void) { return calls; }

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    char path[PATH_MAX];
    if (path_of(fd, path)) {
        if (step(1))
            return -1;
        if (tears()) {
            REAL(pwrite64)(fd, data, size / 2, offset);
            die();
        }
        note('W', path, offset, data, size);
    }
    return REAL(pwrite64)(fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite64(fd, data, size, offset);
}

ssize_t write(int fd, const void *data, size_t size)
{
    char path[PATH_MAX];
    if (path_of(fd, path)) {
        if (step(1))
            return -1;
        if (tears()) {
            REAL(write)(fd, data, size / 2);
            die();
        }
        note('W', path, lseek(fd, 0, SEEK_CUR), data, size);
    }
    return REAL(write)(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    char path[PATH_MAX];
    if (!path_of(fd, path))
        return REAL(writev)(fd, parts, count);
    return count ? write(fd, parts[0].iov_base, parts[0].iov_len) : 0; /* a short write */
}

int ftruncate64(int fd, off64_t size)
{
    char path[PATH_MAX];
    if (path_of(fd, path)) {
        if (step(1))
            return -1;
        if (tears())
            die();
        note('T', path, size, NULL, 0);
    }
    return REAL(ftruncate64)(fd, size);
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int synced(int fd, int (*call)(int))
{
    char path[PATH_MAX];
    if (path_of(fd, path)) {
        if (step(0))
            return -1;
        if (tears())
            die();
        note('S', path, 0, NULL, 0);
    }
    return call(fd);
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }

int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

static int named(char kind, const char *from, const char *to, int (*call)(const char *, const char *))
{
    if (inside(to)) {
        if (step(1))
            return -1;
        if (tears())
            die();
        note(kind, to, 0, from, strlen(from));
    }
    return call(from, to);
}

int rename(const char *from, const char *to) { return named('R', from, to, REAL(rename)); }

int link(const char *from, const char *to) { return named('L', from, to, REAL(link)); }

int unlink(const char *path)
{
    if (inside(path)) {
        if (step(0))
            return -1;
        if (tears())
            die();
        note('U', path, 0, NULL, 0);
    }
    return REAL(unlink)(path);
}

/* Opening changes a folder where it makes a file, and a file where it empties it. */
static void opened(const char *path, int flags)
{
    if (inside(path) && flags & O_CREAT && access(path, F_OK) != 0)
        note('C', path, 0, NULL, 0);
    else if (inside(path) && flags & O_TRUNC)
        note('T', path, 0, NULL, 0);
}

#define MODE(flags, mode)              \
    mode_t mode = 0;                   \
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) { \
        va_list rest;                  \
        va_start(rest, flags);         \
        mode = va_arg(rest, mode_t);   \
        va_end(rest);                  \
    }

int open64(const char *path, int flags, ...)
{
    MODE(flags, mode)
    opened(path, flags);
    return REAL(open64)(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    MODE(flags, mode)
    opened(path, flags);
    return REAL(open64)(path, flags, mode);
}
