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

// 32 columns x 4 rows; `x`: their pairs of tokens, 8 columns at a time.
INLINE void sub_block(int32x4_t sum[PAIRS][2], const uint8_t *codes, const int8_t *values,
                      int pairs, uint32_t quant) {
  const uint8x16_t low = vdupq_n_u8(15), flip = vdupq_n_u8(0x80);
  UNROLL for (int i = 0; i < 4; i++) {  // columns 8 i ...
    const int in_low = quant == PIO_INT8 ? 0 : i / 2;
    const uint8_t *from = codes + 128 * (quant == PIO_INT8 ? i : i % 2);
    uint8x16_t a = vld1q_u8(from), b = vld1q_u8(from + 64);
    if (quant == PIO_INT8) {
      a = veorq_u8(a, flip), b = veorq_u8(b, flip);
    } else if (in_low == 0) {
      a = vandq_u8(a, low), b = vandq_u8(b, low);
    } else {
      a = vshrq_n_u8(a, 4), b = vshrq_n_u8(b, 4);
    }
    int8x16_t x[PAIRS];
    UNROLL for (int t = 0; t < pairs; t++) x[t] = vld1q_s8(values + 16 * (i * pairs + t));
    multiply_add(sum, vreinterpretq_s8_u8(a), vreinterpretq_s8_u8(b), x, pairs);
  }
}

// Two neighbours, twice: what belongs to a pair of tokens in the order of a sum's lanes.
INLINE float32x4_t pair_of_floats(const float *x) {
  float32x2_t two = vld1_f32(x);
  return vcombine_f32(two, two);
}

INLINE int32x4_t pair_of_starts(const int32_t *x) {
  int32x2_t two = vld1_s32(x);
  return vcombine_s32(two, two);
}

// acc[t][r] += one group, rows 4 q ... 4 q + 3, lanes as those of a sum.
INLINE void add_group(float32x4_t acc[PAIRS][2], const struct pio_tile *p, const uint8_t *block,
                      size_t g, size_t q, int tokens, uint32_t quant) {
  const int pairs = (tokens + 1) / 2;
  const size_t sub_bytes = quant == PIO_INT8 ? 512 : 256, at = g * (size_t)tokens;
  const int8_t *values = p->pairs + g * p->group * 2 * (size_t)pairs;
  const uint8_t *codes = block + 16 * q;
  int32x4_t sum[PAIRS][2];
  UNROLL for (int t = 0; t < pairs; t++) {
    sum[t][0] = quant == PIO_INT4 ? pair_of_starts(p->starts + at + 2 * t) : vdupq_n_s32(0);
    sum[t][1] = sum[t][0];
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
      float32x4_t both = vmulq_f32(scales, pair_of_floats(p->scales + at + 2 * t));
      acc[t][r] = vfmaq_f32(acc[t][r], vcvtq_f32_s32(sum[t][r]), both);
      if (quant == PIO_INT4_AFFINE) {
        acc[t][r] = vfmaq_f32(acc[t][r], minima, pair_of_floats(p->shifts + at + 2 * t));
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
  PIO_RUN_GEMM(tiles[w->quant - PIO_INT8], TOKENS, 1);
}

#pragma clang attribute pop
#endif
