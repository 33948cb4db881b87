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

void pio_gemm_transposed_scalar(float *y, size_t y_stride, const struct pio_matrix *w,
                                size_t row_begin, size_t row_end, size_t group_begin,
                                size_t group_end, const float *x, size_t x_stride, size_t tokens,
                                int accumulate) {
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

// The 64 rows from block `first` on, of which those of [row_begin, row_end) count.
struct stripe {
  float x[4 * PIO_ROWS];  // 0 outside
  const uint8_t *blocks[4];
};

static struct stripe stripe_of(const struct pio_matrix *w, size_t first, size_t group,
                               size_t row_begin, size_t row_end, const float *x) {
  struct stripe out;
  size_t last = (row_end - 1) / PIO_ROWS;
  for (size_t b = 0; b < 4; b++) {
    out.blocks[b] = pio_block(w, first + b < last ? first + b : last, group);
  }
  for (size_t r = 0; r < 4 * PIO_ROWS; r++) {
    size_t row = first * PIO_ROWS + r;
    out.x[r] = row >= row_begin && row < row_end ? x[row - row_begin] : 0;
  }
  return out;
}

void pio_gemm_transposed_int8_scalar(float *y, size_t y_stride, const struct pio_matrix *w,
                                     size_t row_begin, size_t row_end, size_t group_begin,
                                     size_t group_end, const float *x, size_t x_stride,
                                     size_t tokens, int accumulate) {
  const size_t end = group_end * w->group < w->cols ? group_end * w->group : w->cols;
  const int32_t zero = w->quant == PIO_INT8 ? 128 : 8;
  for (size_t t = 0; t < tokens; t++) {
    for (size_t col = group_begin * w->group; col < end; col++) {
      const size_t group = col / w->group, in_group = col % w->group;
      float sums[4] = {0}, minima[PIO_ROWS] = {0}, parts[4];
      for (size_t first = row_begin / PIO_ROWS; first * PIO_ROWS < row_end; first += 4) {
        struct stripe s = stripe_of(w, first, group, row_begin, row_end, x + t * x_stride);
        float z[4 * PIO_ROWS];
        uint32_t greatest = 0;
        for (size_t r = 0; r < 4 * PIO_ROWS; r++) {
          const uint8_t *block = s.blocks[r / PIO_ROWS];
          float scale = pio_block_scale(block, w->quant, w->group, 0, r % PIO_ROWS);
          z[r] = s.x[r] * scale;
          uint32_t bits = pio_to_bits(fabsf(z[r]));
          greatest = bits > greatest ? bits : greatest;
          if (w->quant != PIO_INT4_AFFINE) continue;
          float minimum = pio_block_scale(block, w->quant, w->group, 1, r % PIO_ROWS);
          float *sum = minima + r % PIO_ROWS;
          *sum = fmaf(s.x[r], fmaf(8, scale, minimum), *sum);
        }
        pio_step step = pio_transposed_step(greatest);
        int32_t whole[4] = {0};
        for (size_t r = 0; r < 4 * PIO_ROWS && step.inverse != 0; r++) {
          int32_t code = pio_block_code(s.blocks[r / PIO_ROWS], w->quant, r % PIO_ROWS, in_group);
          whole[r / 4 % 4] += (int32_t)rintf(z[r] * step.inverse) * (code - zero);
        }
        for (size_t i = 0; i < 4; i++) sums[i] = fmaf((float)whole[i], step.scale, sums[i]);
      }
      pio_transposed_fold(parts, minima);
      float least = (parts[0] + parts[1]) + (parts[2] + parts[3]);
      float sum = (sums[0] + sums[1]) + (sums[2] + sums[3]) + least;
      float *out = y + t * y_stride + col;
      *out = accumulate ? *out + sum : sum;
    }
  }
}

void pio_gemm_transposed_float_scalar(float *y, size_t y_stride, struct pio_floats w,
                                      const float *x, size_t x_stride, size_t x_step, size_t tokens,
                                      size_t rows, size_t cols, int accumulate) {
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
