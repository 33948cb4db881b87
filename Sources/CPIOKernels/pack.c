// The block layout of weights, written and read back. It stands nowhere else but in the kernels.
#include <math.h>

#include "internal.h"

size_t pio_block_bytes(uint32_t quant, uint32_t group) {
  size_t planes = quant == PIO_INT4_AFFINE ? 2 : 1;
  return pio_codes_bytes(quant, group) + planes * PIO_ROWS * sizeof(uint16_t);
}

void pio_pack_block(uint8_t *block, const uint8_t *codes, const uint16_t *scales,
                    const uint16_t *minima, uint32_t quant, uint32_t group) {
  size_t code_bytes = pio_codes_bytes(quant, group), planes = PIO_ROWS * sizeof(uint16_t);
  memset(block, 0, code_bytes);
  for (size_t row = 0; row < PIO_ROWS; row++) {
    for (size_t col = 0; col < group; col++) {
      uint8_t code = codes[row * group + col];
      size_t sub = col / PIO_SUB, in = col % PIO_SUB;
      if (quant == PIO_INT8) {
        block[512 * sub + 64 * (in / 4) + 4 * row + in % 4] = code;
      } else {
        size_t at = 256 * sub + 64 * (in % 16 / 4) + 4 * row + in % 4;
        block[at] |= (uint8_t)((code & 15) << (in < 16 ? 0 : 4));
      }
    }
  }
  memcpy(block + code_bytes, scales, planes);
  if (quant == PIO_INT4_AFFINE) memcpy(block + code_bytes + planes, minima, planes);
}

void pio_dequantize_rows(float *out, size_t stride, const struct pio_matrix *w, size_t row_begin,
                         size_t row_end) {
  int32_t zero = pio_zero(w->quant);
  for (size_t row = row_begin; row < row_end; row++) {
    size_t in_block = row % PIO_ROWS;
    float *y = out + (row - row_begin) * stride;
    for (size_t g = 0; g * w->group < w->cols; g++) {
      const uint8_t *block = pio_block(w, row / PIO_ROWS, g);
      float scale = pio_block_scale(block, w->quant, w->group, 0, in_block);
      float minimum = 0;
      if (w->quant == PIO_INT4_AFFINE) {
        minimum = pio_block_scale(block, w->quant, w->group, 1, in_block);
      }
      size_t begin = g * w->group, end = begin + w->group < w->cols ? begin + w->group : w->cols;
      for (size_t col = begin; col < end; col++) {
        float code = (float)(pio_block_code(block, w->quant, in_block, col - begin) - zero);
        y[col] = w->quant == PIO_INT4_AFFINE ? fmaf(code, scale, minimum) : code * scale;
      }
    }
  }
}
