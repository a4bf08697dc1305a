/* Counts the calls that change files under one folder, and fails or kills at a chosen one.

   Loaded with LD_PRELOAD by faults.py, which calls faults_arm in a forked process. Python, Rust and
   libstdc++ all reach the kernel through these functions of libc; what goes around them (stdio's
   own buffers, shared mappings) is not counted. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* The same numbers as in faults.py. */
enum { COUNT, FAIL, FULL, KILL, HALF_AND_KILL, SHORT, STOP };
enum { GO, FAILED, CUT };

static char under[PATH_MAX];
static size_t length;
static long wanted, seen;
static int armed, action, code, full, logged = -1;

void faults_arm(const char *folder, long at, int what, int error, int descriptor)
{
    snprintf(under, sizeof under, "%s/", folder);
    length = strlen(under);
    wanted = at, action = what, code = error, logged = descriptor;
    seen = full = 0;
    armed = 1;
}

long faults_disarm(void)
{
    armed = 0;
    return seen;
}

static void join(char *result, int at, const char *path)
{
    char link[64], folder[PATH_MAX] = "";
    if (path[0] == '/') {
        snprintf(result, PATH_MAX, "%s", path);
        return;
    }
    if (at == AT_FDCWD) {
        if (!getcwd(folder, sizeof folder))
            folder[0] = 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t size = readlink(link, folder, sizeof folder - 1);
        folder[size > 0 ? size : 0] = 0;
    }
    if (snprintf(result, PATH_MAX, "%s%s%s", folder, *path ? "/" : "", path) >= PATH_MAX)
        result[0] = 0;
}

static int is_under(const char *path)
{
    return !strncmp(path, under, length) ||
           (strlen(path) == length - 1 && !strncmp(path, under, length - 1));
}

/* What the call is to do. `space` says whether a full disk would make it fail.

   The log has one line per call: number, kind, path, other path, and the inode of an open file. */
static int event(const char *kind, int space, int at, const char *path, int to, const char *other)
{
    char first[PATH_MAX], second[PATH_MAX] = "", line[2 * PATH_MAX + 64];
    if (!armed)
        return GO;
    int before = errno;
    join(first, at, path);
    if (other)
        join(second, to, other);
    if (!is_under(first) && !(other && is_under(second))) {
        errno = before;
        return GO;
    }
    long number = __sync_add_and_fetch(&seen, 1);
    if (logged >= 0) {
        struct stat about = {0};
        if (!*path)
            fstat(at, &about);
        int size = snprintf(line, sizeof line, "%ld\t%s\t%s\t%s\t%lu\n", number, kind, first,
                            second, (unsigned long)about.st_ino);
        syscall(SYS_write, logged, line, size);
    }
    errno = before;
    int writes = !strcmp(kind, "write");
    if (number == wanted) {
        if (action == KILL || (action == HALF_AND_KILL && !writes))
            raise(SIGKILL);
        if (action == STOP)
            raise(SIGSTOP);
        if (action == FAIL) {
            errno = code;
            return FAILED;
        }
        if (action == FULL) {
            full = 1;
            if (writes)
                return CUT;
        }
        if (writes && (action == SHORT || action == HALF_AND_KILL))
            return CUT;
    }
    if (full && space) {
        errno = ENOSPC;
        return FAILED;
    }
    return GO;
}

static void after_cut(void)
{
    if (action == HALF_AND_KILL)
        raise(SIGKILL);
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* A write of half of the bytes; of one byte, the whole. */
#define CUT_TO(size) ((size) > 1 ? (size) / 2 : (size))

ssize_t write(int file, const void *data, size_t size)
{
    REAL(write);
    int what = event("write", 1, file, "", 0, NULL);
    if (what == FAILED)
        return -1;
    if (what == GO)
        return real(file, data, size);
    ssize_t done = real(file, data, CUT_TO(size));
    after_cut();
    return done;
}

#define POSITIONED_WRITE(name, offset) \
    ssize_t name(int file, const void *data, size_t size, offset place) \
    { \
        REAL(name); \
        int what = event("write", 1, file, "", 0, NULL); \
        if (what == FAILED) \
            return -1; \
        if (what == GO) \
            return real(file, data, size, place); \
        ssize_t done = real(file, data, CUT_TO(size), place); \
        after_cut(); \
        return done; \
    }
POSITIONED_WRITE(pwrite, off_t)
POSITIONED_WRITE(pwrite64, off64_t)

ssize_t writev(int file, const struct iovec *parts, int count)
{
    REAL(writev);
    int what = event("write", 1, file, "", 0, NULL);
    if (what == FAILED)
        return -1;
    if (what == GO)
        return real(file, parts, count);
    struct iovec first = {parts[0].iov_base, CUT_TO(parts[0].iov_len)};
    ssize_t done = real(file, &first, 1);
    after_cut();
    return done;
}

#define COPY(name, from_type) \
    ssize_t name(int to, int from, from_type *place, size_t size) \
    { \
        REAL(name); \
        return event("write", 1, to, "", 0, NULL) == FAILED ? -1 : real(to, from, place, size); \
    }
ssize_t sendfile(int to, int from, off_t *place, size_t size);
ssize_t sendfile64(int to, int from, off64_t *place, size_t size);
COPY(sendfile, off_t)
COPY(sendfile64, off64_t)

ssize_t copy_file_range(int from, off64_t *start, int to, off64_t *place, size_t size,
                        unsigned flags)
{
    REAL(copy_file_range);
    if (event("write", 1, to, "", 0, NULL) == FAILED)
        return -1;
    return real(from, start, to, place, size, flags);
}

#define BY_FILE(name, kind) \
    int name(int file) \
    { \
        REAL(name); \
        return event(kind, 1, file, "", 0, NULL) == FAILED ? -1 : real(file); \
    }
BY_FILE(fsync, "fsync")
BY_FILE(fdatasync, "fsync")

#define TRUNCATES(name, offset) \
    int name(int file, offset size) \
    { \
        REAL(name); \
        return event("truncate", 1, file, "", 0, NULL) == FAILED ? -1 : real(file, size); \
    }
TRUNCATES(ftruncate, off_t)
TRUNCATES(ftruncate64, off64_t)

static int changes(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

#define OPENS(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(name); \
        MODE(flags) \
        if (changes(flags) && \
            event("open", (flags & O_CREAT) != 0, AT_FDCWD, path, 0, NULL) == FAILED) \
            return -1; \
        return real(path, flags, mode); \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name) \
    int name(int at, const char *path, int flags, ...) \
    { \
        REAL(name); \
        MODE(flags) \
        if (changes(flags) && event("open", (flags & O_CREAT) != 0, at, path, 0, NULL) == FAILED) \
            return -1; \
        return real(at, path, flags, mode); \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

#define STREAMS(name) \
    FILE *name(const char *path, const char *mode) \
    { \
        REAL(name); \
        if (strpbrk(mode, "wa+") && event("open", 1, AT_FDCWD, path, 0, NULL) == FAILED) \
            return NULL; \
        return real(path, mode); \
    }
STREAMS(fopen)
STREAMS(fopen64)

int rename(const char *old, const char *new)
{
    REAL(rename);
    int what = event("rename", 0, AT_FDCWD, old, AT_FDCWD, new);
    return what == FAILED ? -1 : real(old, new);
}

int renameat(int from, const char *old, int to, const char *new)
{
    REAL(renameat);
    return event("rename", 0, from, old, to, new) == FAILED ? -1 : real(from, old, to, new);
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    REAL(renameat2);
    const char *kind = flags & 2 ? "exchange" : "rename";
    return event(kind, 0, from, old, to, new) == FAILED ? -1 : real(from, old, to, new, flags);
}

int link(const char *old, const char *new)
{
    REAL(link);
    return event("link", 1, AT_FDCWD, old, AT_FDCWD, new) == FAILED ? -1 : real(old, new);
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    REAL(linkat);
    return event("link", 1, from, old, to, new) == FAILED ? -1 : real(from, old, to, new, flags);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    return event("mkdir", 1, AT_FDCWD, path, 0, NULL) == FAILED ? -1 : real(path, mode);
}

int mkdirat(int at, const char *path, mode_t mode)
{
    REAL(mkdirat);
    return event("mkdir", 1, at, path, 0, NULL) == FAILED ? -1 : real(at, path, mode);
}

int unlink(const char *path)
{
    REAL(unlink);
    return event("unlink", 0, AT_FDCWD, path, 0, NULL) == FAILED ? -1 : real(path);
}

int unlinkat(int at, const char *path, int flags)
{
    REAL(unlinkat);
    const char *kind = flags & AT_REMOVEDIR ? "rmdir" : "unlink";
    return event(kind, 0, at, path, 0, NULL) == FAILED ? -1 : real(at, path, flags);
}

int rmdir(const char *path)
{
    REAL(rmdir);
    return event("rmdir", 0, AT_FDCWD, path, 0, NULL) == FAILED ? -1 : real(path);
}

#define CHANGES_MODE(name, kind) \
    int name(const char *path, mode_t mode) \
    { \
        REAL(name); \
        return event(kind, 0, AT_FDCWD, path, 0, NULL) == FAILED ? -1 : real(path, mode); \
    }
CHANGES_MODE(chmod, "chmod")

int fchmodat(int at, const char *path, mode_t mode, int flags)
{
    REAL(fchmodat);
    return event("chmod", 0, at, path, 0, NULL) == FAILED ? -1 : real(at, path, mode, flags);
}
