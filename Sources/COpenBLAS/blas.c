#define _GNU_SOURCE
#include "COpenBLAS.h"

#ifdef PIO_BLAS
#include <pthread.h>
#include <stdlib.h>

enum { row_major = 101, no_trans = 111, trans = 112 };
typedef void sgemm_function(int, int, int, int, int, int, float, const float *, int, const float *,
                            int, float, float *, int);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static sgemm_function *sgemm;
static const char *(*config)(void);

#ifdef PIO_BLAS_STATIC

// A static executable cannot load libraries. OpenBLAS's flavour without threads is linked, so that
// a start pays for nothing but choosing its kernels.
sgemm_function cblas_sgemm;
char *openblas_get_config(void);

static void load(void) {
  config = (const char *(*)(void))openblas_get_config;
  sgemm = cblas_sgemm;
}

#else
#include <dlfcn.h>

// OpenBLAS is loaded at the first product: linked, its start-up (threads, buffers, 30 MB of code)
// is paid by every run of the quantized path, which never calls it.
static void load(void) {
  void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  if (!library) return;
  config = (const char *(*)(void))dlsym(library, "openblas_get_config");
  sgemm = (sgemm_function *)dlsym(library, "cblas_sgemm");
  // Our pool's threads call it, each for itself.
  void (*set_threads)(int) = (void (*)(int))dlsym(library, "openblas_set_num_threads");
  if (set_threads) set_threads(1);
}

#endif

void pio_blas_set_environment(void) {
  setenv("OPENBLAS_NUM_THREADS", "1", 1);
}

int pio_sgemm(float *y, size_t y_stride, const float *w, size_t w_stride, const float *x,
              size_t x_stride, size_t tokens, size_t rows, size_t cols, int accumulate) {
  pthread_once(&once, load);
  if (!sgemm) return 0;
  sgemm(row_major, no_trans, trans, (int)tokens, (int)rows, (int)cols, 1, x, (int)x_stride, w,
        (int)w_stride, accumulate ? 1 : 0, y, (int)y_stride);
  return 1;
}

const char *pio_blas_name(void) {
  pthread_once(&once, load);
  return config ? config() : NULL;
}

#else

int pio_sgemm(float *y, size_t y_stride, const float *w, size_t w_stride, const float *x,
              size_t x_stride, size_t tokens, size_t rows, size_t cols, int accumulate) {
  (void)y, (void)y_stride, (void)w, (void)w_stride, (void)x, (void)x_stride;
  (void)tokens, (void)rows, (void)cols, (void)accumulate;
  return 0;
}

const char *pio_blas_name(void) {
  return NULL;
}

void pio_blas_set_environment(void) {}

#endif
