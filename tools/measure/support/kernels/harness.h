// Alternating measurements: every round runs the machine's limits and each case once, so that a
// slow moment hits all alike; medians over the rounds, with the smallest and the largest.
#ifndef PIO_HARNESS_H
#define PIO_HARNESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_CASES = 64, MAX_ROUNDS = 99, MAX_THREADS = 64 };

typedef void run_part(const void *context, unsigned thread, unsigned threads);

struct bench_case {
  char name[72];
  run_part *run;
  const void *context;
  double work;  // of one run by all threads
  const char *unit;
  int limit;    // index of the case that is the limit, -1: none
  int repeats;  // runs in a sample
  double rates[MAX_ROUNDS];
};

static struct bench_case cases[MAX_CASES];
static int case_count;
static unsigned thread_count = 1;

static int add_case(const char *name, run_part *run, const void *context, double work,
                    const char *unit, int limit) {
  if (case_count == MAX_CASES) exit(2);
  struct bench_case *c = &cases[case_count];
  *c = (struct bench_case){
      .run = run, .context = context, .work = work, .unit = unit, .limit = limit};
  snprintf(c->name, sizeof c->name, "%s", name);
  return case_count++;
}

// Workers spin between runs: what is measured is the kernel.
static atomic_int generation, finished;
static const struct bench_case *current;

static void *worker(void *argument) {
  unsigned thread = (unsigned)(uintptr_t)argument;
  for (int seen = 0;; seen++) {
    while (atomic_load(&generation) == seen) {
    }
    current->run(current->context, thread, thread_count);
    atomic_fetch_add(&finished, 1);
  }
  return NULL;
}

static void start_workers(void) {
  for (unsigned t = 1; t < thread_count; t++) {
    pthread_t handle;
    if (pthread_create(&handle, NULL, worker, (void *)(uintptr_t)t) != 0) exit(1);
  }
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double seconds_of(const struct bench_case *c, int repeats) {
  double start = now();
  for (int i = 0; i < repeats; i++) {
    atomic_store(&finished, 0);
    current = c;
    atomic_fetch_add(&generation, 1);
    c->run(c->context, 0, thread_count);
    while (atomic_load(&finished) != (int)thread_count - 1) {
    }
  }
  return now() - start;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void print_case(const struct bench_case *c, int rounds) {
  double rates[MAX_ROUNDS], shares[MAX_ROUNDS];
  for (int r = 0; r < rounds; r++) {
    rates[r] = c->rates[r];
    shares[r] = c->limit < 0 ? 0 : 100 * c->rates[r] / cases[c->limit].rates[r];
  }
  qsort(rates, (size_t)rounds, sizeof(double), ascending);
  qsort(shares, (size_t)rounds, sizeof(double), ascending);
  printf("%-46s %8.2f %-9s (%.2f-%.2f)", c->name, rates[rounds / 2], c->unit, rates[0],
         rates[rounds - 1]);
  if (c->limit >= 0) {
    printf("  %5.1f %% (%.1f-%.1f)", shares[rounds / 2], shares[0], shares[rounds - 1]);
  }
  printf("\n");
}

// Runs all cases; a sample takes at least `least` seconds.
static void measure(int rounds, double least) {
  for (int i = 0; i < case_count; i++) {
    struct bench_case *c = &cases[i];
    seconds_of(c, 1);
    double once = seconds_of(c, 1);
    c->repeats = once > least ? 1 : (int)(least / (once > 1e-9 ? once : 1e-9)) + 1;
  }
  for (int r = 0; r < rounds; r++) {
    for (int i = 0; i < case_count; i++) {
      struct bench_case *c = &cases[i];
      c->rates[r] = c->work * c->repeats / seconds_of(c, c->repeats) * 1e-9;
    }
  }
  for (int i = 0; i < case_count; i++) print_case(&cases[i], rounds);
}

#endif
