// Kernels of the saliency: products with transposed weights and the derivatives of what stands
// between them. Included by CPIOKernels.h, whose conventions hold here. Float results are within
// the bounds stated; they may differ in their last bits from one ISA to another, not between runs
// or thread counts.
#ifndef CPIOGRADIENTS_H
#define CPIOGRADIENTS_H

#include <stddef.h>
#include <stdint.h>

struct pio_matrix;
struct pio_kv;

// Y (+)= X W for the weight rows [row_begin, row_end) and the columns of the groups
// [group_begin, group_end):
//   y[t][c] = sum over r of x[t][r - row_begin] * w[r][c]     (`accumulate`: added to y[t][c])
// The transpose of `pio_gemm`, with the dequantized weights in f32: the input is not quantized.
// x: (tokens, row_end - row_begin), stride x_stride; y: (tokens, w->cols), stride y_stride, of
// which the columns of these groups are written. Error below (rows + 8) * 2^-23 * sum|x| (scale *
// |code - zero| + |minimum| + 8 |scale|), the last two for affine weights only.
typedef void pio_gemm_transposed(float *y, size_t y_stride, const struct pio_matrix *w,
                                 size_t row_begin, size_t row_end, size_t group_begin,
                                 size_t group_end, const float *x, size_t x_stride, size_t tokens,
                                 int accumulate);

// The same, `gemm_transposed_int8`, with the rows' numbers in 8 bits and, NaNs apart, the same bits
// on every ISA. Four row-blocks, 64 rows from the block of row_begin on, are a stripe. For each of
// them, each group and token,
//   z_r = x_r * scale of row r (x_r = 0 outside of the range),   d = max |z_r| * (1 / 127),
//   q_r = z_r * (127 / max |z_r|), rounded to even,
//   s[c][i] = fma(sum of q_r (code - zero) over the rows r with r / 4 mod 4 = i, d, s[c][i]),
// with q and d 0 where the maximum is below 2^-100, and d a NaN where a z_r is no number or
// infinite; zero is 128 for int8, else 8. Then y[t][c] (+)= (s[c][0] + s[c][1]) + (s[c][2] +
// s[c][3]) + m, where m is 0, or for affine weights the sum of x_r (minimum + 8 scale). Error of
// exact arithmetic: the sum over the stripes of max(d / 2, 2^-100) * sum|code - zero|.

// A float matrix of `kind` (PIO_F32, PIO_F16, PIO_BF16): element (r, c) at r * stride + c.
struct pio_floats {
  const void *data;
  size_t stride;
  uint32_t kind;
};

// Y (+)= X W for W (rows, cols): y[t][c] = sum over r of x[t * x_stride + r * x_step] * w[r][c].
// With x_stride 1 the columns of a row-major X are the tokens. Error below (rows + 4) * 2^-24 *
// (|y|
// + sum|x w|).
typedef void pio_gemm_transposed_float(float *y, size_t y_stride, struct pio_floats w,
                                       const float *x, size_t x_stride, size_t x_step,
                                       size_t tokens, size_t rows, size_t cols, int accumulate);

// The derivative of `pio_rms_norm` for the upstream derivative `u` (dim):
//   out = (weight * u) / r - x * <x, weight * u> / (dim * r^3),   r = sqrt(mean(x^2) + epsilon)
// out may be u. Error below (dim + 16) * 2^-23 * (|first term| + |x| sum|x weight u| / (dim r^3)).
typedef void pio_rms_norm_back(float *out, const float *u, const float *x, const float *weight,
                               float epsilon, size_t dim);

// The transpose of `pio_rope`, so the inverse rotation where cosines^2 + sines^2 = 1. The same bits
// on every ISA.
typedef void pio_rope_back(float *x, const float *cosines, const float *sines, size_t heads,
                           size_t head_dim);

// For y = silu(gate) * up and the upstream derivative `dy`: `gate` becomes dL/dgate = dy * up * s
// (1
// + gate (1 - s)), s = sigmoid(gate), and `up` becomes dL/dup = dy * silu(gate). Absolute error
// below 2^-20 * (1 + |gate|) * |dy| * max(|up|, 1) for finite numbers.
typedef void pio_silu_mul_back(float *gate, float *up, const float *dy, size_t count);

// x = softmax(scale * x). Absolute error below 2^-21 * (1 + max - min of the scaled numbers) for
// finite ones.
typedef void pio_softmax(float *x, float scale, size_t count);

// x[i] = exp(x[i] - most), whose sum is returned; most >= x[i]. Relative error of each below 2^-21
// * (1 + most - x[i]), exp as at `pio_silu_mul`, where it is a normal number, else 0 may be
// written; of the sum, what these make and count * 2^-24. -infinity becomes 0, a NaN stays one.
typedef float pio_exponentials(float *x, float most, size_t count);

// Keys (`values` 0) or values (1) of the positions `begin`... of one head as f32, (count,
// head_dim).
typedef void pio_kv_read(float *out, const struct pio_kv *kv, int values, size_t begin,
                         size_t count);

struct pio_gradients {
  pio_gemm_transposed *gemm_transposed;
  pio_gemm_transposed *gemm_transposed_int8;
  pio_gemm_transposed_float *gemm_transposed_float;
  pio_rms_norm_back *rms_norm_back;
  pio_rope_back *rope_back;
  pio_silu_mul_back *silu_mul_back;
  pio_softmax *softmax;
  pio_exponentials *exponentials;
  pio_kv_read *kv_read;
};

#endif
