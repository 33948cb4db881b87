// The integer product with usmmla: (2 rows x 8 columns) times (2 tokens x 8 columns). Zipping two
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

// sum[t][r] += 8 columns of rows 2 r, 2 r + 1 (of 4) x tokens 2 t, 2 t + 1, the codes of columns
// 0 ... 7 of both rows side by side in rows[r]. A sum's lanes: row-major, tokens inside. Codes are
// unsigned, values signed: usmmla, so that those of int8 need no change.
INLINE void multiply_add(int32x4_t sum[PAIRS][2], const uint8x16_t rows[2], const int8_t *x,
                         int pairs) {
  UNROLL for (int t = 0; t < pairs; t++) {
    int8x16_t values = vld1q_s8(x + 16 * t);
    UNROLL for (int r = 0; r < 2; r++) sum[t][r] = vusmmlaq_s32(sum[t][r], rows[r], values);
  }
}

// Of the registers of columns 0 ... 3 and 4 ... 7 of 4 rows: rows 0 and 1, rows 2 and 3.
INLINE void zip(uint8x16_t rows[2], const uint8_t *from) {
  uint32x4_t a = vreinterpretq_u32_u8(vld1q_u8(from)),
             b = vreinterpretq_u32_u8(vld1q_u8(from + 64));
  rows[0] = vreinterpretq_u8_u32(vzip1q_u32(a, b));
  rows[1] = vreinterpretq_u8_u32(vzip2q_u32(a, b));
}

// 32 columns x 4 rows; `x`: their pairs of tokens, 8 columns at a time.
INLINE void sub_block(int32x4_t sum[PAIRS][2], const uint8_t *codes, const int8_t *x, int pairs,
                      uint32_t quant) {
  if (quant == PIO_INT8) {
    UNROLL for (int i = 0; i < 4; i++) {  // columns 8 i ...
      uint8x16_t rows[2];
      zip(rows, codes + 128 * i);
      multiply_add(sum, rows, x + 16 * i * pairs, pairs);
    }
    return;
  }
  const uint8x16_t low = vdupq_n_u8(15);
  UNROLL for (int i = 0; i < 2; i++) {  // columns 8 i ... and 16 + 8 i ...: zipped together
    uint8x16_t both[2];
    zip(both, codes + 128 * i);
    uint8x16_t first[2] = {vandq_u8(both[0], low), vandq_u8(both[1], low)};
    uint8x16_t second[2] = {vshrq_n_u8(both[0], 4), vshrq_n_u8(both[1], 4)};
    multiply_add(sum, first, x + 16 * i * pairs, pairs);
    multiply_add(sum, second, x + 16 * (i + 2) * pairs, pairs);
  }
}

// acc[t][r] += one group, rows 4 q ... 4 q + 3, lanes as those of a sum.
INLINE void add_group(float32x4_t acc[PAIRS][2], const struct pio_tile *p, const uint8_t *block,
                      size_t g, size_t q, int tokens, uint32_t quant) {
  const int pairs = (tokens + 1) / 2;
  const size_t sub_bytes = quant == PIO_INT8 ? 512 : 256, at = 4 * g * (size_t)pairs;
  const int8_t *values = p->pairs + g * p->group * 2 * (size_t)pairs;
  const uint8_t *codes = block + 16 * q;
  int32x4_t sum[PAIRS][2];
  UNROLL for (int t = 0; t < pairs; t++) {
    sum[t][0] = sum[t][1] = vld1q_s32(p->starts + at + 4 * t);
  }
  for (size_t sub = 0; sub < p->group / PIO_SUB; sub++) {
    sub_block(sum, codes, values, pairs, quant);
    codes += sub_bytes;
    values += 2 * PIO_SUB * pairs;
  }
  float32x4_t scale = pio_arm_plane(block, p->group, quant, 0, q), minimum = scale;
  if (quant == PIO_INT4_AFFINE) minimum = pio_arm_plane(block, p->group, quant, 1, q);
  UNROLL for (int r = 0; r < 2; r++) {
    float32x4_t scales = r == 0 ? vzip1q_f32(scale, scale) : vzip2q_f32(scale, scale);
    float32x4_t minima = r == 0 ? vzip1q_f32(minimum, minimum) : vzip2q_f32(minimum, minimum);
    UNROLL for (int t = 0; t < pairs; t++) {
      float32x4_t both = vmulq_f32(scales, vld1q_f32(p->scales + at + 4 * t));
      acc[t][r] = vfmaq_f32(acc[t][r], pio_arm_float(sum[t][r]), both);
      if (quant == PIO_INT4_AFFINE) {
        acc[t][r] = vfmaq_f32(acc[t][r], minima, vld1q_f32(p->shifts + at + 4 * t));
      }
    }
  }
}

// Between chunks p->acc holds (4 quarters, pairs, 2) vectors, lanes as those of a sum.
INLINE void tile(const struct pio_tile *p, int tokens, uint32_t quant) {
  const size_t block_bytes = pio_arm_block_bytes(p->group, quant);
  const int pairs = (tokens + 1) / 2;
  float rows[TOKENS][PIO_ROWS];
  for (size_t q = 0; q < 4; q++) {
    float *kept = p->acc + q * 8 * (size_t)pairs;
    float32x4_t acc[PAIRS][2];
    UNROLL for (int t = 0; t < pairs; t++) {
      UNROLL for (int r = 0; r < 2; r++) {
        acc[t][r] = p->first ? vdupq_n_f32(0) : vld1q_f32(kept + 8 * t + 4 * r);
      }
    }
    for (size_t g = 0; g < p->count; g++) {
      add_group(acc, p, p->blocks + g * block_bytes, g, q, tokens, quant);
    }
    UNROLL for (int t = 0; t < pairs; t++) {
      if (p->last) {
        vst1q_f32(rows[2 * t] + 4 * q, vuzp1q_f32(acc[t][0], acc[t][1]));
        vst1q_f32(rows[2 * t + 1] + 4 * q, vuzp2q_f32(acc[t][0], acc[t][1]));
      } else {
        vst1q_f32(kept + 8 * t, acc[t][0]);
        vst1q_f32(kept + 8 * t + 4, acc[t][1]);
      }
    }
  }
  if (!p->last) return;
  memcpy(p->acc, rows, (size_t)tokens * sizeof rows[0]);
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
  PIO_RUN_GEMM_AS(tile_table[w->quant - PIO_INT8], TOKENS, 1, PIO_PAIRED, pio_zero(w->quant),
                  PIO_SUM_START);
}

#pragma clang attribute pop
#endif
