/* Faults at exact places, preloaded into a command (forked.py): counts the calls that change files below a folder, or
   those that read them, and lets the n-th fail or kills the process group before it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* A line of the log is a call and the file below the folder. */
struct state {
  long count, used;
  char log[(1 << 20) - 16];
};

static struct state *state;
static char root[4096];
static size_t root_length;
static long target;
static int failure, reads;

/* failure: an error number, for one call; -1 kills. ENOSPC lasts, and strikes only calls that take space. */
void faults_arm(const char *folder, long number, int error, int on_reads, void *memory) {
  snprintf(root, sizeof root, "%s", folder);
  root_length = strlen(root);
  target = number;
  failure = error;
  reads = on_reads;
  state = memory;
}

enum kind { READ, CHANGE, SPACE };

static int strikes(const char *call, enum kind kind, const char *path) {
  if (!state || (kind == READ) != reads || strncmp(path, root, root_length)) return 0;
  if (failure == ENOSPC && kind != SPACE) return 0;
  long number = __atomic_add_fetch(&state->count, 1, __ATOMIC_SEQ_CST);
  char line[4096];
  long length = snprintf(line, sizeof line, "%ld %s %s\n", number, call, path + root_length);
  long start = __atomic_fetch_add(&state->used, length, __ATOMIC_SEQ_CST);
  if (length < (long)sizeof line && start + length < (long)sizeof state->log) memcpy(state->log + start, line, length);
  if (!target || (failure == ENOSPC ? number < target : number != target)) return 0;
  if (failure < 0) {
    kill(0, SIGKILL);
    pause();
  }
  errno = failure;
  return 1;
}

static int strikes_fd(const char *call, enum kind kind, int descriptor) {
  char link[64], path[4096];
  int before = errno;
  if (!state || (kind == READ) != reads) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof path - 1);
  errno = before;
  if (length <= 0) return 0;
  path[length] = 0;
  return strikes(call, kind, path);
}

static int strikes_at(const char *call, enum kind kind, int folder, const char *name) {
  char link[64], path[8192];
  if (!state) return 0;
  if (name[0] == '/' || folder == AT_FDCWD) return strikes(call, kind, name);
  snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
  ssize_t length = readlink(link, path, 4095);
  if (length <= 0) return 0;
  snprintf(path + length, sizeof path - length, "/%s", name);
  return strikes(call, kind, path);
}

#define REAL(type, name, ...)                                  \
  static type (*real)(__VA_ARGS__);                            \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define OPEN(name)                                                                  \
  int name(const char *path, int flags, ...) {                                      \
    va_list more;                                                                   \
    va_start(more, flags);                                                          \
    mode_t mode = va_arg(more, mode_t);                                             \
    va_end(more);                                                                   \
    REAL(int, #name, const char *, int, mode_t);                                    \
    if (strikes("open", flags & O_CREAT ? SPACE : flags & 3 ? CHANGE : READ, path)) return -1; \
    return real(path, flags, mode);                                                 \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                \
  int name(int folder, const char *path, int flags, ...) {                                          \
    va_list more;                                                                                   \
    va_start(more, flags);                                                                          \
    mode_t mode = va_arg(more, mode_t);                                                             \
    va_end(more);                                                                                   \
    REAL(int, #name, int, const char *, int, mode_t);                                               \
    if (strikes_at("openat", flags & O_CREAT ? SPACE : flags & 3 ? CHANGE : READ, folder, path)) return -1; \
    return real(folder, path, flags, mode);                                                         \
  }
OPENAT(openat)
OPENAT(openat64)

#define ON_FD(type, name, kind, parameters, arguments) \
  type name parameters {                               \
    static type(*real) parameters;                     \
    if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #name); \
    if (strikes_fd(#name, kind, fd)) return -1;        \
    return real arguments;                             \
  }
ON_FD(ssize_t, write, SPACE, (int fd, const void *data, size_t size), (fd, data, size))
ON_FD(ssize_t, writev, SPACE, (int fd, const struct iovec *parts, int count), (fd, parts, count))
ON_FD(ssize_t, pwrite, SPACE, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
ON_FD(ssize_t, pwrite64, SPACE, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
ON_FD(int, ftruncate, SPACE, (int fd, off_t size), (fd, size))
ON_FD(int, ftruncate64, SPACE, (int fd, off64_t size), (fd, size))
ON_FD(int, fsync, SPACE, (int fd), (fd))
ON_FD(int, fdatasync, SPACE, (int fd), (fd))
ON_FD(ssize_t, read, READ, (int fd, void *data, size_t size), (fd, data, size))
ON_FD(ssize_t, pread, READ, (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
ON_FD(ssize_t, pread64, READ, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at))
ON_FD(ssize_t, copy_file_range, SPACE, (int from, off64_t *a, int fd, off64_t *b, size_t size, unsigned flags),
      (from, a, fd, b, size, flags))
ON_FD(ssize_t, sendfile, SPACE, (int fd, int from, off_t *at, size_t size), (fd, from, at, size))
ON_FD(ssize_t, sendfile64, SPACE, (int fd, int from, off64_t *at, size_t size), (fd, from, at, size))

/* The descriptor is closed although the call fails, as on Linux. */
int close(int fd) {
  REAL(int, "close", int);
  int flags = state && !reads ? fcntl(fd, F_GETFL) : 0;
  int fails = flags > 0 && flags & 3 && strikes_fd("close", CHANGE, fd), error = errno;
  int result = real(fd);
  if (!fails) return result;
  errno = error;
  return -1;
}

#define ON_PATH(name, kind, parameters, arguments)    \
  int name parameters {                               \
    static int(*real) parameters;                     \
    if (!real) real = (int(*) parameters)dlsym(RTLD_NEXT, #name); \
    if (strikes(#name, kind, path)) return -1;        \
    return real arguments;                            \
  }
ON_PATH(rename, CHANGE, (const char *from, const char *path), (from, path))
ON_PATH(unlink, CHANGE, (const char *path), (path))
ON_PATH(rmdir, CHANGE, (const char *path), (path))
ON_PATH(mkdir, SPACE, (const char *path, mode_t mode), (path, mode))
ON_PATH(link, SPACE, (const char *from, const char *path), (from, path))
ON_PATH(symlink, SPACE, (const char *from, const char *path), (from, path))

#define ON_PATH_AT(name, kind, parameters, arguments)         \
  int name parameters {                                       \
    static int(*real) parameters;                             \
    if (!real) real = (int(*) parameters)dlsym(RTLD_NEXT, #name); \
    if (strikes_at(#name, kind, folder, path)) return -1;     \
    return real arguments;                                    \
  }
ON_PATH_AT(unlinkat, CHANGE, (int folder, const char *path, int flags), (folder, path, flags))
ON_PATH_AT(mkdirat, SPACE, (int folder, const char *path, mode_t mode), (folder, path, mode))
ON_PATH_AT(utimensat, CHANGE, (int folder, const char *path, const struct timespec times[2], int flags),
           (folder, path, times, flags))
ON_PATH_AT(renameat, CHANGE, (int from_folder, const char *from, int folder, const char *path),
           (from_folder, from, folder, path))
