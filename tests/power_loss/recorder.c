/* Preloaded into a process, it writes down every change that the process makes to files below $RECORD_ROOT.
 *
 * A record in $RECORD_LOG: kind (1 byte), offset or length (8), length of the path (4), of the data (4), path, data.
 * Kinds: C created, W write, T truncate, S sync (of a file or folder), R rename (data is the new path), U unlink
 * (of a file or folder), M mkdir.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST 4096
static char *paths[MOST];
static int log_fd = -1;
static const char *root;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    root = getenv("RECORD_ROOT");
    const char *log = getenv("RECORD_LOG");
    if (root && log)
        log_fd = REAL(open)(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

static int watched(const char *path) { return log_fd >= 0 && path && strncmp(path, root, strlen(root)) == 0; }

static const char *path_of(int fd) { return fd >= 0 && fd < MOST ? paths[fd] : NULL; }

static void put(char kind, uint64_t number, const char *path, const void *data, uint32_t size) {
    uint32_t length = strlen(path);
    struct iovec parts[] = {{&kind, 1}, {&number, 8}, {&length, 4}, {&size, 4}, {(void *)path, length}, {(void *)data, size}};
    pthread_mutex_lock(&lock);
    if (REAL(writev)(log_fd, parts, 6) < 0)
        abort();
    pthread_mutex_unlock(&lock);
}

/* The whole path of one that is relative to an open folder, as shutil.rmtree uses them. */
static const char *resolved(int at, const char *path, char *whole) {
    if (!path || path[0] == '/' || !path_of(at))
        return path;
    snprintf(whole, PATH_MAX, "%s/%s", paths[at], path);
    return whole;
}

static int opened(int fd, const char *path, int flags, int existed) {
    if (fd < 0 || fd >= MOST || !watched(path))
        return fd;
    free(paths[fd]);
    paths[fd] = strdup(path);
    if (flags & O_CREAT && !existed)
        put('C', 0, path, "", 0);
    else if (flags & O_TRUNC)
        put('T', 0, path, "", 0);
    return fd;
}

#define MODE int mode = 0; if (flags & O_CREAT) { va_list rest; va_start(rest, flags); mode = va_arg(rest, int); va_end(rest); }
#define EXISTED int existed = access(path, F_OK) == 0

int open(const char *path, int flags, ...) { MODE; EXISTED; return opened(REAL(open)(path, flags, mode), path, flags, existed); }
int open64(const char *path, int flags, ...) { MODE; EXISTED; return opened(REAL(open64)(path, flags, mode), path, flags, existed); }
#define WHOLE char buffer[PATH_MAX]; const char *whole = resolved(at, path, buffer)
#define EXISTED_AT int existed = faccessat(at, path, F_OK, 0) == 0
int openat(int at, const char *path, int flags, ...) { MODE; WHOLE; EXISTED_AT; return opened(REAL(openat)(at, path, flags, mode), whole, flags, existed); }
int openat64(int at, const char *path, int flags, ...) { MODE; WHOLE; EXISTED_AT; return opened(REAL(openat64)(at, path, flags, mode), whole, flags, existed); }

int close(int fd) {
    if (path_of(fd)) { free(paths[fd]); paths[fd] = NULL; }
    return REAL(close)(fd);
}

ssize_t write(int fd, const void *data, size_t size) {
    ssize_t done = REAL(write)(fd, data, size);
    if (done > 0 && path_of(fd)) put('W', lseek(fd, 0, SEEK_CUR) - done, paths[fd], data, done);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    ssize_t done = REAL(pwrite)(fd, data, size, offset);
    if (done > 0 && path_of(fd)) put('W', offset, paths[fd], data, done);
    return done;
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    ssize_t done = REAL(pwrite64)(fd, data, size, offset);
    if (done > 0 && path_of(fd)) put('W', offset, paths[fd], data, done);
    return done;
}
int ftruncate(int fd, off_t length) {
    int result = REAL(ftruncate)(fd, length);
    if (!result && path_of(fd)) put('T', length, paths[fd], "", 0);
    return result;
}
int ftruncate64(int fd, off64_t length) {
    int result = REAL(ftruncate64)(fd, length);
    if (!result && path_of(fd)) put('T', length, paths[fd], "", 0);
    return result;
}
int fsync(int fd) {
    int result = REAL(fsync)(fd);
    if (!result && path_of(fd)) put('S', 0, paths[fd], "", 0);
    return result;
}
int fdatasync(int fd) {
    int result = REAL(fdatasync)(fd);
    if (!result && path_of(fd)) put('S', 0, paths[fd], "", 0);
    return result;
}
int rename(const char *from, const char *to) {
    int result = REAL(rename)(from, to);
    if (!result && watched(from)) put('R', 0, from, to, strlen(to));
    return result;
}
int renameat(int at, const char *from, int at2, const char *to) {
    int result = REAL(renameat)(at, from, at2, to);
    if (!result && watched(from)) put('R', 0, from, to, strlen(to));
    return result;
}
int unlink(const char *path) {
    int result = REAL(unlink)(path);
    if (!result && watched(path)) put('U', 0, path, "", 0);
    return result;
}
int unlinkat(int at, const char *path, int flags) {
    WHOLE;
    int result = REAL(unlinkat)(at, path, flags);
    if (!result && watched(whole)) put('U', 0, whole, "", 0);
    return result;
}
int rmdir(const char *path) {
    int result = REAL(rmdir)(path);
    if (!result && watched(path)) put('U', 0, path, "", 0);
    return result;
}
int mkdir(const char *path, mode_t mode) {
    int result = REAL(mkdir)(path, mode);
    if (!result && watched(path)) put('M', 0, path, "", 0);
    return result;
}
