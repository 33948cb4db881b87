// The products, the oracles.
#include "../internal.h"
#include "../tables.h"

enum { TOKENS = 8 };  // that share one unpacking of a weight row

// code - zero of one row of a block.
static void unpack_row(int16_t *codes, const uint8_t *block, const struct pio_matrix *w,
                       size_t row) {
  int32_t zero = pio_zero(w->quant);
  for (size_t col = 0; col < w->group; col++) {
    codes[col] = (int16_t)(pio_block_code(block, w->quant, row, col) - zero);
  }
}

// acc[t] += one group of one row times the same group of `tokens` tokens from `first` on.
static void add_group(float *acc, const struct pio_matrix *w, struct pio_activations x,
                      size_t first, size_t tokens, size_t row, size_t g) {
  size_t groups = pio_groups(w->cols, w->group), in_block = row % PIO_ROWS;
  const uint8_t *block = pio_block(w, row / PIO_ROWS, g);
  float scale = pio_block_scale(block, w->quant, w->group, 0, in_block), minimum = 0;
  if (w->quant == PIO_INT4_AFFINE) {
    minimum = pio_block_scale(block, w->quant, w->group, 1, in_block);
  }
  int16_t codes[128];
  unpack_row(codes, block, w, in_block);
  for (size_t t = 0; t < tokens; t++) {
    size_t at = (first + t) * groups + g;
    int32_t sum = 0;
    for (size_t col = 0; col < w->group; col++) sum += codes[col] * x.values[at * w->group + col];
    acc[t] = fmaf((float)sum, scale * x.scales[at], acc[t]);
    if (w->quant == PIO_INT4_AFFINE) {
      acc[t] = fmaf(minimum, x.scales[at] * (float)x.sums[at], acc[t]);
    }
  }
}

void pio_gemm_scalar(float *y, size_t y_stride, const struct pio_matrix *w,
                     struct pio_activations x, size_t tokens, size_t block_begin, size_t block_end,
                     const float *bias, int accumulate) {
  size_t groups = pio_groups(w->cols, w->group);
  size_t row_end = block_end * PIO_ROWS < w->rows ? block_end * PIO_ROWS : w->rows;
  for (size_t row = block_begin * PIO_ROWS; row < row_end; row++) {
    for (size_t first = 0; first < tokens; first += TOKENS) {
      size_t count = tokens - first < TOKENS ? tokens - first : TOKENS;
      float acc[TOKENS] = {0};
      for (size_t g = 0; g < groups; g++) add_group(acc, w, x, first, count, row, g);
      for (size_t t = 0; t < count; t++) {
        float sum = bias ? acc[t] + bias[row] : acc[t];
        float *out = y + (first + t) * y_stride + row;
        *out = accumulate ? *out + sum : sum;
      }
    }
  }
}

void pio_gemm_f32_scalar(float *y, size_t y_stride, const float *w, size_t w_stride, const float *x,
                         size_t x_stride, size_t tokens, size_t rows, size_t cols,
                         const float *bias, int accumulate) {
  for (size_t t = 0; t < tokens; t++) {
    for (size_t row = 0; row < rows; row++) {
      float acc = 0;
      for (size_t i = 0; i < cols; i++) {
        acc = fmaf(w[row * w_stride + i], x[t * x_stride + i], acc);
      }
      if (bias) acc = acc + bias[row];
      float *out = y + t * y_stride + row;
      *out = accumulate ? *out + acc : acc;
    }
  }
}
