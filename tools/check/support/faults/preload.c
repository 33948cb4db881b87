// Preloaded into pioedge by tools/check/faults: counts the calls that can fail, and lets chosen
// ones fail.
//
// What it reads of the environment:
//   FAULTS_TABLE   a file of sizeof(struct table) bytes, shared with the script: it outlives a
//   process that is killed FAULTS_FAIL    CALL:FIRST:COUNT:HOW; calls FIRST to FIRST + COUNT - 1 of
//   CALL, from 1, fail (COUNT 0: all from
//                  there on) with errno HOW, or move half of the bytes where HOW is 0
//   FAULTS_NAMED   files without a name cannot be made, as on a file system that lacks them
//   FAULTS_FILES   most file descriptors that may be open from now on
//   FAULTS_CLOCK   a seed: the day's clock jumps to and fro, the others leap forward as after a
//   sleep FAULTS_ALARM   microseconds between signals that interrupt system calls
//
// An allocation is counted by who asked: pioedge's own code, Swift's libraries, or another one.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

// In the order of NAMES in the script.
enum call {
  OPEN,
  STAT,
  ACCESS,
  LIST,
  SEEK,
  READ,
  WRITE,
  SYNC,
  NAME,
  UNLINK,
  TRUNCATE,
  SPACE,
  MAP,
  ADVISE,
  LOCK,
  HOLD,
  THREAD,
  AFFINITY,
  ALLOCATE_OWN,
  ALLOCATE_SWIFT,
  ALLOCATE_OTHER,
  CALL_COUNT,
};

static const char *const names[CALL_COUNT] = {
    "open",         "stat",           "access",        "list",   "seek",     "read",
    "write",        "sync",           "name",          "unlink", "truncate", "space",
    "map",          "advise",         "lock",          "hold",   "thread",   "affinity",
    "allocate-own", "allocate-swift", "allocate-other"};

struct table {
  _Atomic uint32_t calls[CALL_COUNT];
  _Atomic uint32_t failed;
};

static struct table *table;
static int failing = -1;
static uint32_t first_failing, failing_count;
static int failing_errno;
static _Atomic uint32_t clock_seed;
static bool names_files;

struct range {
  uintptr_t start, end;
  enum call call;
};
static struct range ranges[64];
static int range_count;

static int note_object(struct dl_phdr_info *info, size_t size, void *context) {
  (void)size;
  (void)context;
  const bool is_executable = info->dlpi_name[0] == 0;
  // The runtime's own C++ library with them.
  const bool is_swift = strstr(info->dlpi_name, "/libswift") ||
                        strstr(info->dlpi_name, "Foundation") ||
                        strstr(info->dlpi_name, "libstdc++");
  if (strstr(info->dlpi_name, "vdso")) return 0;
  for (int i = 0; i < info->dlpi_phnum && range_count < 64; i++) {
    const ElfW(Phdr) *part = &info->dlpi_phdr[i];
    if (part->p_type != PT_LOAD || !(part->p_flags & PF_X) || !(is_executable || is_swift))
      continue;
    const uintptr_t start = info->dlpi_addr + part->p_vaddr;
    ranges[range_count++] =
        (struct range){start, start + part->p_memsz, is_executable ? ALLOCATE_OWN : ALLOCATE_SWIFT};
  }
  return 0;
}

static enum call allocator(const void *caller) {
  for (int i = 0; i < range_count; i++) {
    if ((uintptr_t)caller >= ranges[i].start && (uintptr_t)caller < ranges[i].end)
      return ranges[i].call;
  }
  return ALLOCATE_OTHER;
}

/// Counts a call; whether it is to fail, errno set.
static bool fails(enum call call) {
  if (!table) return false;
  const uint32_t index = atomic_fetch_add(&table->calls[call], 1) + 1;
  if ((int)call != failing || index < first_failing) return false;
  if (failing_count != 0 && index >= first_failing + failing_count) return false;
  atomic_fetch_add(&table->failed, 1);
  errno = failing_errno;
  return true;
}

static size_t half(size_t count) {
  return count > 1 ? count / 2 : count;
}

/// A call that moves bytes: how many it may move, or -1: it fails.
static ssize_t allowed(enum call call, size_t count) {
  if (!fails(call)) return (ssize_t)count;
  return failing_errno == 0 ? (ssize_t)half(count) : -1;
}

static void interrupt(int signal) {
  (void)signal;
}

__attribute__((constructor)) static void begin(void) {
  dl_iterate_phdr(note_object, NULL);
  const char *files = getenv("FAULTS_FILES");
  const char *alarm = getenv("FAULTS_ALARM");
  const char *clock = getenv("FAULTS_CLOCK");
  const char *path = getenv("FAULTS_TABLE");
  const char *fail = getenv("FAULTS_FAIL");
  if (clock) clock_seed = (uint32_t)strtoul(clock, NULL, 10) | 1;
  names_files = getenv("FAULTS_NAMED") != NULL;
  if (fail) {
    for (int i = 0; i < CALL_COUNT; i++) {
      const size_t length = strlen(names[i]);
      if (strncmp(fail, names[i], length) != 0 || fail[length] != ':') continue;
      if (sscanf(fail + length, ":%u:%u:%d", &first_failing, &failing_count, &failing_errno) == 3)
        failing = i;
    }
    if (failing < 0) _exit(99);
  }
  if (path) {
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    void *shared =
        (void *)syscall(SYS_mmap, NULL, sizeof *table, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || shared == MAP_FAILED) _exit(99);
    close(fd);
    table = shared;
  }
  if (files) {
    struct rlimit limit = {strtoul(files, NULL, 10), strtoul(files, NULL, 10)};
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  if (alarm) {
    struct sigaction action = {.sa_handler = interrupt};
    sigaction(SIGALRM, &action, NULL);
    const suseconds_t step = (suseconds_t)strtoul(alarm, NULL, 10);
    struct itimerval timer = {{0, step}, {0, step}};
    setitimer(ITIMER_REAL, &timer, NULL);
  }
}

#define REAL(name, ...)                                           \
  ({                                                              \
    static __typeof__(&name) real;                                \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
    real(__VA_ARGS__);                                            \
  })

// Files.

/// Whether opening fails, errno set.
static bool fails_to_open(int flags) {
  if (fails(OPEN)) return true;
  errno = EOPNOTSUPP;
  return names_files && (flags & __O_TMPFILE) == __O_TMPFILE;
}

static mode_t mode_of(int flags, va_list rest) {
  return (flags & O_CREAT) || (flags & __O_TMPFILE) == __O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

#define OPENS(name)                                                   \
  int name(const char *path, int flags, ...) {                        \
    va_list rest;                                                     \
    va_start(rest, flags);                                            \
    const mode_t mode = mode_of(flags, rest);                         \
    va_end(rest);                                                     \
    return fails_to_open(flags) ? -1 : REAL(name, path, flags, mode); \
  }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name)                                                        \
  int name(int folder, const char *path, int flags, ...) {                    \
    va_list rest;                                                             \
    va_start(rest, flags);                                                    \
    const mode_t mode = mode_of(flags, rest);                                 \
    va_end(rest);                                                             \
    return fails_to_open(flags) ? -1 : REAL(name, folder, path, flags, mode); \
  }
OPENS_AT(openat)
OPENS_AT(openat64)

int fstat(int fd, struct stat *status) {
  return fails(STAT) ? -1 : REAL(fstat, fd, status);
}
int fstat64(int fd, struct stat64 *status) {
  return fails(STAT) ? -1 : REAL(fstat64, fd, status);
}
int stat(const char *path, struct stat *status) {
  return fails(STAT) ? -1 : REAL(stat, path, status);
}
int stat64(const char *path, struct stat64 *status) {
  return fails(STAT) ? -1 : REAL(stat64, path, status);
}
int lstat(const char *path, struct stat *status) {
  return fails(STAT) ? -1 : REAL(lstat, path, status);
}
int lstat64(const char *path, struct stat64 *status) {
  return fails(STAT) ? -1 : REAL(lstat64, path, status);
}
int access(const char *path, int mode) {
  return fails(ACCESS) ? -1 : REAL(access, path, mode);
}

off_t lseek(int fd, off_t offset, int whence) {
  return fails(SEEK) ? -1 : REAL(lseek, fd, offset, whence);
}
off64_t lseek64(int fd, off64_t offset, int whence) {
  return fails(SEEK) ? -1 : REAL(lseek64, fd, offset, whence);
}

ssize_t read(int fd, void *bytes, size_t count) {
  const ssize_t most = allowed(READ, count);
  return most < 0 ? -1 : REAL(read, fd, bytes, (size_t)most);
}

ssize_t pread(int fd, void *bytes, size_t count, off_t offset) {
  const ssize_t most = allowed(READ, count);
  return most < 0 ? -1 : REAL(pread, fd, bytes, (size_t)most, offset);
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t offset) {
  const ssize_t most = allowed(READ, count);
  return most < 0 ? -1 : REAL(pread64, fd, bytes, (size_t)most, offset);
}

/// What is told on stderr is what the script reads: it always gets there.
ssize_t write(int fd, const void *bytes, size_t count) {
  const ssize_t most = fd == STDERR_FILENO ? (ssize_t)count : allowed(WRITE, count);
  return most < 0 ? -1 : REAL(write, fd, bytes, (size_t)most);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
  const ssize_t most = allowed(WRITE, count);
  return most < 0 ? -1 : REAL(pwrite, fd, bytes, (size_t)most, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
  const ssize_t most = allowed(WRITE, count);
  return most < 0 ? -1 : REAL(pwrite64, fd, bytes, (size_t)most, offset);
}

int fsync(int fd) {
  return fails(SYNC) ? -1 : REAL(fsync, fd);
}
int fdatasync(int fd) {
  return fails(SYNC) ? -1 : REAL(fdatasync, fd);
}

int rename(const char *from, const char *to) {
  return fails(NAME) ? -1 : REAL(rename, from, to);
}
int link(const char *from, const char *to) {
  return fails(NAME) ? -1 : REAL(link, from, to);
}
int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
  return fails(NAME) ? -1 : REAL(linkat, from_folder, from, to_folder, to, flags);
}
int mkdir(const char *path, mode_t mode) {
  return fails(NAME) ? -1 : REAL(mkdir, path, mode);
}
int unlink(const char *path) {
  return fails(UNLINK) ? -1 : REAL(unlink, path);
}
int unlinkat(int folder, const char *path, int flags) {
  return fails(UNLINK) ? -1 : REAL(unlinkat, folder, path, flags);
}
DIR *opendir(const char *path) {
  return fails(LIST) ? NULL : REAL(opendir, path);
}
int flock(int fd, int how) {
  return fails(HOLD) ? -1 : REAL(flock, fd, how);
}
int ftruncate(int fd, off_t size) {
  return fails(TRUNCATE) ? -1 : REAL(ftruncate, fd, size);
}
int ftruncate64(int fd, off64_t size) {
  return fails(TRUNCATE) ? -1 : REAL(ftruncate64, fd, size);
}
int fstatvfs(int fd, struct statvfs *status) {
  return fails(SPACE) ? -1 : REAL(fstatvfs, fd, status);
}
int fstatvfs64(int fd, struct statvfs64 *status) {
  return fails(SPACE) ? -1 : REAL(fstatvfs64, fd, status);
}

// Memory.

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
  return fails(MAP) ? MAP_FAILED : REAL(mmap, at, size, protection, flags, fd, offset);
}
void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset) {
  return fails(MAP) ? MAP_FAILED : REAL(mmap64, at, size, protection, flags, fd, offset);
}
int madvise(void *start, size_t size, int advice) {
  return fails(ADVISE) ? -1 : REAL(madvise, start, size, advice);
}
int posix_fadvise(int fd, off_t offset, off_t size, int advice) {
  return fails(ADVISE) ? errno : REAL(posix_fadvise, fd, offset, size, advice);
}
int posix_fadvise64(int fd, off64_t offset, off64_t size, int advice) {
  return fails(ADVISE) ? errno : REAL(posix_fadvise64, fd, offset, size, advice);
}
int mlock(const void *start, size_t size) {
  return fails(LOCK) ? -1 : REAL(mlock, start, size);
}
int mlock2(const void *start, size_t size, unsigned flags) {
  return fails(LOCK) ? -1 : REAL(mlock2, start, size, flags);
}

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
#define FAILS_TO_ALLOCATE() fails(allocator(__builtin_return_address(0)))

void *malloc(size_t size) {
  return FAILS_TO_ALLOCATE() ? NULL : __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
  return FAILS_TO_ALLOCATE() ? NULL : __libc_calloc(count, size);
}
void *realloc(void *old, size_t size) {
  return FAILS_TO_ALLOCATE() ? NULL : __libc_realloc(old, size);
}
void *memalign(size_t alignment, size_t size) {
  return FAILS_TO_ALLOCATE() ? NULL : __libc_memalign(alignment, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
  return FAILS_TO_ALLOCATE() ? NULL : __libc_memalign(alignment, size);
}
int posix_memalign(void **out, size_t alignment, size_t size) {
  if (FAILS_TO_ALLOCATE()) return ENOMEM;
  *out = __libc_memalign(alignment, size);
  return *out ? 0 : ENOMEM;
}

// Threads.

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *),
                   void *argument) {
  return fails(THREAD) ? errno : REAL(pthread_create, thread, attributes, body, argument);
}
int sched_setaffinity(pid_t thread, size_t size, const cpu_set_t *set) {
  return fails(AFFINITY) ? -1 : REAL(sched_setaffinity, thread, size, set);
}
int sched_getaffinity(pid_t thread, size_t size, cpu_set_t *set) {
  return fails(AFFINITY) ? -1 : REAL(sched_getaffinity, thread, size, set);
}

// Clocks.

int clock_gettime(clockid_t clock, struct timespec *now) {
  static _Atomic int64_t leaps;
  const int result = REAL(clock_gettime, clock, now);
  if (!clock_seed || result != 0) return result;
  const uint32_t random = atomic_fetch_add(&clock_seed, 0x9E3779B9u) * 2654435761u;
  if (clock == CLOCK_REALTIME) {
    now->tv_sec += (int64_t)(random >> 12) - (1 << 19);
  } else {
    // Forward alone, for whoever asks: a clock that runs backward is not a Linux one.
    if (random >> 28 == 0) atomic_fetch_add(&leaps, 3600);
    now->tv_sec += atomic_load(&leaps);
  }
  return result;
}
