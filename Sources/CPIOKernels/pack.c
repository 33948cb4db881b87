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

// The codes (group) of row `row` of a block.
static void read_codes(uint8_t *codes, const uint8_t *block, uint32_t quant, uint32_t group,
                       size_t row) {
  const uint8_t *from = block + 4 * row;
  if (quant == PIO_INT8) {
    for (size_t col = 0; col < group; col += 4, from += 64) memcpy(codes + col, from, 4);
    return;
  }
  for (size_t sub = 0; sub < group; sub += PIO_SUB) {
    for (size_t col = sub; col < sub + PIO_SUB / 2; col += 4, from += 64) {
      for (size_t i = 0; i < 4; i++) {
        codes[col + i] = from[i] & 15;
        codes[col + i + PIO_SUB / 2] = from[i] >> 4;
      }
    }
  }
}

void pio_dequantize_rows(float *out, size_t stride, const struct pio_matrix *w, size_t row_begin,
                         size_t row_end) {
  const int32_t zero = pio_zero(w->quant);
  for (size_t row = row_begin; row < row_end; row++, out += stride) {
    for (size_t begin = 0; begin < w->cols; begin += w->group) {
      const uint8_t *block = pio_block(w, row / PIO_ROWS, begin / w->group);
      const size_t count = w->cols - begin < w->group ? w->cols - begin : w->group;
      const float scale = pio_block_scale(block, w->quant, w->group, 0, row % PIO_ROWS);
      uint8_t codes[128];
      read_codes(codes, block, w->quant, w->group, row % PIO_ROWS);
      if (w->quant == PIO_INT4_AFFINE) {
        const float minimum = pio_block_scale(block, w->quant, w->group, 1, row % PIO_ROWS);
        for (size_t i = 0; i < count; i++) out[begin + i] = fmaf(codes[i], scale, minimum);
      } else {
        for (size_t i = 0; i < count; i++) out[begin + i] = (float)(codes[i] - zero) * scale;
      }
    }
  }
}
