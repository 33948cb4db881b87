// The one BLAS function that is used.
#ifndef COPENBLAS_H
#define COPENBLAS_H

#include <stddef.h>

// y = X W^T (+ y, where accumulate), f32, on the calling thread: y (tokens, rows), w (rows, cols),
// x (tokens, cols), strides in elements. Returns 0 where no OpenBLAS is there (nothing was done),
// else 1.
int pio_sgemm(float *y, size_t y_stride, const float *w, size_t w_stride, const float *x,
              size_t x_stride, size_t tokens, size_t rows, size_t cols, int accumulate);

// Says to an OpenBLAS that is still to be loaded that it shall start no threads (they would only
// take memory). Changes the process's environment: for its owner, before there are other threads.
void pio_blas_set_environment(void);

// "OpenBLAS 0.3.21 ..." or NULL.
const char *pio_blas_name(void);

#endif
