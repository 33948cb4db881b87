// The integer product with smmla: (2 rows x 8 columns) times (2 tokens x 8 columns). Zipping two
// registers of 4 rows x 4 columns gives the operands. A single token goes to sdot.
#include "../panel.h"
#include "../tables.h"

#if defined(__aarch64__)
#include "finish_group.h"

#pragma clang attribute push(__attribute__((target("arch=armv8.2-a+dotprod+i8mm"))), \
                             apply_to = function)

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

enum { TOKENS = 8, PAIRS = TOKENS / 2 };  // of tokens; an odd last one is multiplied twice

// sum[t][r] += 8 columns of rows 2 r, 2 r + 1 (of 4) x tokens 2 t, 2 t + 1; `a` and `b` are the
// registers of columns 0 ... 3 and 4 ... 7 of these 4 rows. A sum's lanes: row-major, tokens
// inside.
INLINE void multiply_add(int32x4_t sum[PAIRS][2], int8x16_t a, int8x16_t b, const int8x16_t *x,
                         int pairs) {
  int8x16_t rows[2] = {
      vreinterpretq_s8_s32(vzip1q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b))),
      vreinterpretq_s8_s32(vzip2q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)))};
  UNROLL for (int t = 0; t < pairs; t++) {
    UNROLL for (int r = 0; r < 2; r++) sum[t][r] = vmmlaq_s32(sum[t][r], rows[r], x[t]);
  }
}

// Columns 8 i ... 8 i + 7 of a sub-block of each token pair.
INLINE void load_values(int8x16_t *x, const int8_t *values, size_t row, int tokens) {
  UNROLL for (int t = 0; t < (tokens + 1) / 2; t++) {
    const int8_t *first = values + (size_t)(2 * t) * row;
    const int8_t *second = 2 * t + 1 < tokens ? first + row : first;
    x[t] = vcombine_s8(vld1_s8(first), vld1_s8(second));
  }
}

// 32 columns x 4 rows.
INLINE void sub_block(int32x4_t sum[PAIRS][2], const uint8_t *codes, const int8_t *values,
                      size_t row, int tokens, uint32_t quant) {
  const uint8x16_t low = vdupq_n_u8(15), flip = vdupq_n_u8(0x80);
  const int pairs = (tokens + 1) / 2;
  int8x16_t x[PAIRS];
  UNROLL for (int i = 0; i < 2; i++) {
    uint8x16_t a = vld1q_u8(codes + 128 * i), b = vld1q_u8(codes + 128 * i + 64);
    uint8x16_t c, d;  // the columns 16 further
    if (quant == PIO_INT8) {
      c = veorq_u8(vld1q_u8(codes + 256 + 128 * i), flip);
      d = veorq_u8(vld1q_u8(codes + 256 + 128 * i + 64), flip);
      a = veorq_u8(a, flip), b = veorq_u8(b, flip);
    } else {
      c = vshrq_n_u8(a, 4), d = vshrq_n_u8(b, 4);
      a = vandq_u8(a, low), b = vandq_u8(b, low);
    }
    load_values(x, values + 8 * i, row, tokens);
    multiply_add(sum, vreinterpretq_s8_u8(a), vreinterpretq_s8_u8(b), x, pairs);
    load_values(x, values + 16 + 8 * i, row, tokens);
    multiply_add(sum, vreinterpretq_s8_u8(c), vreinterpretq_s8_u8(d), x, pairs);
  }
}

// acc[t] += one group, rows 4 q ... 4 q + 3.
INLINE void add_group(float32x4_t acc[TOKENS], const struct pio_tile *p, const uint8_t *block,
                      size_t g, size_t q, int tokens, uint32_t quant) {
  const size_t row = p->groups * p->group, sub_bytes = quant == PIO_INT8 ? 512 : 256;
  const int8_t *values = p->values + g * p->group;
  int32x4_t sum[PAIRS][2];
  UNROLL for (int t = 0; t < (tokens + 1) / 2; t++) sum[t][0] = sum[t][1] = vdupq_n_s32(0);
  for (size_t sub = 0; sub < p->group / PIO_SUB; sub++) {
    sub_block(sum, block + sub * sub_bytes + 16 * q, values + sub * PIO_SUB, row, tokens, quant);
  }
  UNROLL for (int t = 0; t < tokens; t++) {
    int32x4_t a = sum[t / 2][0], b = sum[t / 2][1];
    int32x4_t mine = t % 2 == 0 ? vuzp1q_s32(a, b) : vuzp2q_s32(a, b);
    if (quant == PIO_INT4) {
      mine = vaddq_s32(mine, vdupq_n_s32(p->starts[(size_t)t * p->count + g]));
    }
    acc[t] = pio_arm_add_group(acc[t], mine, p, block, g, (size_t)t, q, quant);
  }
}

INLINE void tile(const struct pio_tile *p, int tokens, uint32_t quant) {
  const size_t block_bytes = pio_arm_block_bytes(p->group, quant);
  for (size_t q = 0; q < 4; q++) {
    float32x4_t acc[TOKENS];
    UNROLL for (int t = 0; t < tokens; t++) acc[t] = pio_arm_begin(p, (size_t)t, q);
    for (size_t g = 0; g < p->count; g++) {
      add_group(acc, p, p->blocks + g * block_bytes, g, q, tokens, quant);
    }
    UNROLL for (int t = 0; t < tokens; t++) vst1q_f32(p->acc + PIO_ROWS * t + 4 * (int)q, acc[t]);
  }
  if (!p->last) return;
  for (int t = 0; t < tokens; t++) pio_finish_tile(p, (size_t)t);
}

PIO_TILE_TABLE(tile, 8)

void pio_gemm_i8mm(float *y, size_t y_stride, const struct pio_matrix *w, struct pio_activations x,
                   size_t tokens, size_t block_begin, size_t block_end, const float *bias,
                   int accumulate) {
  if (tokens == 1) {
    pio_gemm_dotprod(y, y_stride, w, x, tokens, block_begin, block_end, bias, accumulate);
    return;
  }
  PIO_RUN_GEMM(tiles[w->quant - PIO_INT8], TOKENS);
}

#pragma clang attribute pop
#endif
