#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "AllocationCounter.h"

// glibc's own entry points: these do not come back to ours.
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static atomic_long calls;

// The turn that is running, and the sums of those before it. One thread of the tool makes these
// calls.
static struct {
  bool begun, answered, stepped;
  long at_begin, at_first_write, at_last_write;
} turn;
static long prefill, decode, writes, turns;

static void end_turn(void) {
  if (turn.answered) {
    prefill += turn.at_first_write - turn.at_begin;
    decode += turn.at_last_write - turn.at_first_write;
    turns++;
  }
  memset(&turn, 0, sizeof turn);
}

static void count(void) {
  atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
}

void *malloc(size_t size) {
  count();
  return __libc_malloc(size);
}

void *calloc(size_t n, size_t size) {
  count();
  return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size) {
  count();
  return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
  count();
  return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  return memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
  *out = memalign(alignment, size);
  return *out ? 0 : ENOMEM;
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
  count();
  return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

// A line of a chat comes in: another turn.
ssize_t read(int fd, void *bytes, size_t size) {
  if (fd == STDIN_FILENO) end_turn();
  return syscall(SYS_read, fd, bytes, size);
}

// The tool fetches a token's embedding: of the prompt, or of the token that a step of decoding
// runs.
ssize_t pread(int fd, void *bytes, size_t size, off_t offset) {
  if (!turn.begun) turn.at_begin = atomic_load(&calls);
  turn.begun = turn.stepped = true;
  return syscall(SYS_pread64, fd, bytes, size, offset);
}

ssize_t pread64(int fd, void *bytes, size_t size, off_t offset) {
  return pread(fd, bytes, size, offset);
}

// An image has been decoded, in the codec's memory.
int close(int fd) {
  if (turn.begun && !turn.answered) turn.at_begin = atomic_load(&calls);
  return (int)syscall(SYS_close, fd);
}

// Text of the answer, or the line break behind it; what else is written follows no step.
ssize_t write(int fd, const void *bytes, size_t size) {
  if (fd == STDOUT_FILENO && turn.stepped) {
    turn.at_last_write = atomic_load(&calls);
    if (!turn.answered) turn.at_first_write = turn.at_last_write;
    turn.answered = true;
    turn.stepped = false;
    writes++;
  }
  return syscall(SYS_write, fd, bytes, size);
}

__attribute__((destructor)) static void report(void) {
  char line[128];
  end_turn();
  int size =
      snprintf(line, sizeof line, "allocations: prefill %ld decode %ld writes %ld turns %ld\n",
               prefill, decode, writes, turns);
  syscall(SYS_write, STDERR_FILENO, line, (size_t)size);
}
