// The integer product with plain NEON: one 16-byte register is 4 rows x 4 columns.
//
// Products are added in 16 bits. int4: 8 x 8 * 127 = 8,128 a lane over a sub-block. int8: two
// steps, 2 * 128 * 127 = 32,512; then pairs are widened.
#include "../panel.h"
#include "../tables.h"

#if defined(__aarch64__)
#include "finish_group.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

enum { TOKENS = 4 };

INLINE int8x16_t four_values(const int8_t *values) {
  int32_t four;
  memcpy(&four, values, 4);
  return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

// 4 rows x 4 columns: sum[0] rows 0 and 1, sum[1] rows 2 and 3, four lanes a row.
INLINE void multiply(int16x8_t sum[2], int8x16_t codes, int8x16_t x) {
  sum[0] = vmull_s8(vget_low_s8(codes), vget_low_s8(x));
  sum[1] = vmull_high_s8(codes, x);
}

INLINE void multiply_add(int16x8_t sum[2], int8x16_t codes, int8x16_t x) {
  sum[0] = vmlal_s8(sum[0], vget_low_s8(codes), vget_low_s8(x));
  sum[1] = vmlal_high_s8(sum[1], codes, x);
}

// The four lanes of each row, added.
INLINE int32x4_t row_sums(const int16x8_t sum[2]) {
  return vpaddq_s32(vpaddlq_s16(sum[0]), vpaddlq_s16(sum[1]));
}

// Two lanes a row from here on.
INLINE void widen_add(int32x4_t wide[2], const int16x8_t sum[2]) {
  wide[0] = vpadalq_s16(wide[0], sum[0]);
  wide[1] = vpadalq_s16(wide[1], sum[1]);
}

// 32 columns x rows 4 q ... 4 q + 3 of int4; codes less 8 where the kind is symmetric.
INLINE void sub_block_int4(int32x4_t sum[TOKENS], const uint8_t *codes, const int8_t *values,
                           size_t row, int tokens, int8_t zero) {
  const uint8x16_t low = vdupq_n_u8(15);
  int16x8_t narrow[TOKENS][2];
  UNROLL for (int j = 0; j < 4; j++) {
    uint8x16_t both = vld1q_u8(codes + 64 * j);
    int8x16_t a = vsubq_s8(vreinterpretq_s8_u8(vandq_u8(both, low)), vdupq_n_s8(zero));
    int8x16_t b = vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(both, 4)), vdupq_n_s8(zero));
    UNROLL for (int t = 0; t < tokens; t++) {
      const int8_t *v = values + (size_t)t * row + 4 * j;
      if (j == 0) {
        multiply(narrow[t], a, four_values(v));
      } else {
        multiply_add(narrow[t], a, four_values(v));
      }
      multiply_add(narrow[t], b, four_values(v + 16));
    }
  }
  UNROLL for (int t = 0; t < tokens; t++) sum[t] = vaddq_s32(sum[t], row_sums(narrow[t]));
}

INLINE void sub_block_int8(int32x4_t wide[TOKENS][2], const uint8_t *codes, const int8_t *values,
                           size_t row, int tokens) {
  const uint8x16_t flip = vdupq_n_u8(0x80);
  UNROLL for (int j = 0; j < 8; j += 2) {
    int8x16_t a = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(codes + 64 * j), flip));
    int8x16_t b = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(codes + 64 * j + 64), flip));
    UNROLL for (int t = 0; t < tokens; t++) {
      const int8_t *v = values + (size_t)t * row + 4 * j;
      int16x8_t narrow[2];
      multiply(narrow, a, four_values(v));
      multiply_add(narrow, b, four_values(v + 4));
      widen_add(wide[t], narrow);
    }
  }
}

// sums[t] of one group, rows 4 q ... 4 q + 3.
INLINE void group_sums(int32x4_t sum[TOKENS], const struct pio_tile *p, const uint8_t *block,
                       size_t g, size_t q, int tokens, uint32_t quant) {
  const size_t row = p->groups * p->group;
  const int8_t *values = p->values + g * p->group;
  // Half of the start in each lane, of which a row has two: it is even.
  int32x4_t wide[TOKENS][2];
  UNROLL for (int t = 0; t < tokens; t++) {
    sum[t] = vdupq_n_s32(PIO_SUM_START);
    wide[t][0] = wide[t][1] = vdupq_n_s32(PIO_SUM_START / 2);
  }
  for (size_t sub = 0; sub < p->group / PIO_SUB; sub++) {
    const int8_t *v = values + sub * PIO_SUB;
    if (quant == PIO_INT8) {
      sub_block_int8(wide, block + sub * 512 + 16 * q, v, row, tokens);
    } else {
      sub_block_int4(sum, block + sub * 256 + 16 * q, v, row, tokens, quant == PIO_INT4 ? 8 : 0);
    }
  }
  if (quant != PIO_INT8) return;
  UNROLL for (int t = 0; t < tokens; t++) sum[t] = vpaddq_s32(wide[t][0], wide[t][1]);
}

INLINE void tile(const struct pio_tile *p, int tokens, uint32_t quant) {
  const size_t block_bytes = pio_arm_block_bytes(p->group, quant);
  float32x4_t acc[TOKENS][4];
  UNROLL for (int t = 0; t < tokens; t++) {
    UNROLL for (int q = 0; q < 4; q++) acc[t][q] = pio_arm_begin(p, (size_t)t, (size_t)q);
  }
  for (size_t g = 0; g < p->count; g++) {
    const uint8_t *block = p->blocks + g * block_bytes;
    UNROLL for (int q = 0; q < 4; q++) {
      int32x4_t sum[TOKENS];
      group_sums(sum, p, block, g, (size_t)q, tokens, quant);
      UNROLL for (int t = 0; t < tokens; t++) {
        acc[t][q] = pio_arm_add_group(acc[t][q], sum[t], p, block, g * (size_t)tokens + (size_t)t,
                                      (size_t)q, quant);
      }
    }
  }
  UNROLL for (int t = 0; t < tokens; t++) pio_arm_finish(p, (size_t)t, acc[t]);
}

PIO_TILE_TABLE(tile, 4)

void pio_gemm_neon(float *y, size_t y_stride, const struct pio_matrix *w, struct pio_activations x,
                   size_t tokens, size_t block_begin, size_t block_end, const float *bias,
                   int accumulate) {
  PIO_RUN_GEMM(tile_table[w->quant - PIO_INT8], TOKENS, 0);
}

#endif
