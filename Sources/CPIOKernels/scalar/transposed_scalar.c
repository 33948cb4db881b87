// Products with transposed weights, the oracles.
#include "../internal.h"
#include "../tables.h"

static float weight(const struct pio_matrix *w, size_t row, size_t col) {
  const uint8_t *block = pio_block(w, row / PIO_ROWS, col / w->group);
  float scale = pio_block_scale(block, w->quant, w->group, 0, row % PIO_ROWS);
  int32_t code = pio_block_code(block, w->quant, row % PIO_ROWS, col % w->group);
  if (w->quant != PIO_INT4_AFFINE) return (float)(code - pio_zero(w->quant)) * scale;
  return fmaf((float)code, scale, pio_block_scale(block, w->quant, w->group, 1, row % PIO_ROWS));
}

void pio_gemm_back_scalar(float *y, size_t y_stride, const struct pio_matrix *w, size_t row_begin,
                          size_t row_end, size_t group_begin, size_t group_end, const float *x,
                          size_t x_stride, size_t tokens, int accumulate) {
  size_t end = group_end * w->group < w->cols ? group_end * w->group : w->cols;
  for (size_t col = group_begin * w->group; col < end; col++) {
    for (size_t t = 0; t < tokens && !accumulate; t++) y[t * y_stride + col] = 0;
    for (size_t row = row_begin; row < row_end; row++) {
      float factor = weight(w, row, col);
      for (size_t t = 0; t < tokens; t++) {
        float *out = y + t * y_stride + col;
        *out = fmaf(x[t * x_stride + row - row_begin], factor, *out);
      }
    }
  }
}

void pio_gemm_back_float_scalar(float *y, size_t y_stride, struct pio_floats w, const float *x,
                                size_t x_stride, size_t x_step, size_t tokens, size_t rows,
                                size_t cols, int accumulate) {
  for (size_t t = 0; t < tokens; t++) {
    float *out = y + t * y_stride;
    for (size_t col = 0; col < cols && !accumulate; col++) out[col] = 0;
    for (size_t row = 0; row < rows; row++) {
      float factor = x[t * x_stride + row * x_step];
      for (size_t col = 0; col < cols; col++) {
        size_t at = row * w.stride + col;
        float value = w.kind == PIO_F32   ? ((const float *)w.data)[at]
                      : w.kind == PIO_F16 ? pio_f16_to_f32(((const uint16_t *)w.data)[at])
                                          : pio_bf16_to_f32(((const uint16_t *)w.data)[at]);
        out[col] = fmaf(factor, value, out[col]);
      }
    }
  }
}
