// The integer product with sdot: one 16-byte register is 4 rows x 4 columns, times 4 values of a
// token that come from a lane.
#include "../panel.h"
#include "../tables.h"

#if defined(__aarch64__)
#include "finish_group.h"

#pragma clang attribute push(__attribute__((target("arch=armv8.2-a+dotprod"))), apply_to = function)

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

// Rows are done 8 at a time: TOKENS x 2 sums, 2 values a token and 4 registers of codes, of 32.
enum { TOKENS = 4 };

// sum[t][h] += 4 columns (`lane` of the 16 in x[t]) x rows 4 h ... of codes[h].
#define STEP(codes, x, lane)                                        \
  UNROLL for (int t = 0; t < tokens; t++) {                         \
    UNROLL for (int h = 0; h < 2; h++) {                            \
      sum[t][h] = vdotq_laneq_s32(sum[t][h], codes[h], x[t], lane); \
    }                                                               \
  }

// The columns 4 j ... and 16 + 4 j ... of a sub-block of int4.
#define STEP_INT4(j)                                         \
  do {                                                       \
    int8x16_t first[2], second[2];                           \
    UNROLL for (int h = 0; h < 2; h++) {                     \
      uint8x16_t both = vld1q_u8(codes + 64 * (j) + 16 * h); \
      first[h] = vreinterpretq_s8_u8(vandq_u8(both, low));   \
      second[h] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));  \
    }                                                        \
    STEP(first, x[0], j)                                     \
    STEP(second, x[1], j)                                    \
  } while (0)

// The columns 4 j ... (half 0) or 16 + 4 j ... (half 1) of int8.
#define STEP_INT8(half, j)                                                                         \
  do {                                                                                             \
    int8x16_t w[2];                                                                                \
    UNROLL for (int h = 0; h < 2; h++) {                                                           \
      w[h] =                                                                                       \
          vreinterpretq_s8_u8(veorq_u8(vld1q_u8(codes + 256 * (half) + 64 * (j) + 16 * h), flip)); \
    }                                                                                              \
    STEP(w, x[half], j)                                                                            \
  } while (0)

INLINE void sub_block(int32x4_t sum[TOKENS][2], const uint8_t *codes, const int8_t *values,
                      size_t row, int tokens, uint32_t quant) {
  const uint8x16_t low = vdupq_n_u8(15), flip = vdupq_n_u8(0x80);
  int8x16_t x[2][TOKENS];
  UNROLL for (int t = 0; t < tokens; t++) {
    x[0][t] = vld1q_s8(values + (size_t)t * row);
    x[1][t] = vld1q_s8(values + (size_t)t * row + 16);
  }
  if (quant == PIO_INT8) {
    STEP_INT8(0, 0);
    STEP_INT8(0, 1);
    STEP_INT8(0, 2);
    STEP_INT8(0, 3);
    STEP_INT8(1, 0);
    STEP_INT8(1, 1);
    STEP_INT8(1, 2);
    STEP_INT8(1, 3);
  } else {
    STEP_INT4(0);
    STEP_INT4(1);
    STEP_INT4(2);
    STEP_INT4(3);
  }
  (void)low, (void)flip;
}

// acc[t][q] += one group; the unsigned codes of int4 start from - 8 * sum of the values.
INLINE void add_group(float32x4_t acc[TOKENS][4], const struct pio_tile *p, const uint8_t *block,
                      size_t g, int tokens, uint32_t quant) {
  const size_t row = p->groups * p->group, sub_bytes = quant == PIO_INT8 ? 512 : 256;
  const int8_t *values = p->values + g * p->group;
  UNROLL for (int half = 0; half < 2; half++) {
    int32x4_t sum[TOKENS][2];
    UNROLL for (int t = 0; t < tokens; t++) {
      int32_t start = quant == PIO_INT4 ? p->starts[(size_t)t * p->count + g] : 0;
      sum[t][0] = sum[t][1] = vdupq_n_s32(start);
    }
    for (size_t sub = 0; sub < p->group / PIO_SUB; sub++) {
      sub_block(sum, block + sub * sub_bytes + 32 * half, values + sub * PIO_SUB, row, tokens,
                quant);
    }
    UNROLL for (int t = 0; t < tokens; t++) {
      UNROLL for (int h = 0; h < 2; h++) {
        int q = 2 * half + h;
        acc[t][q] =
            pio_arm_add_group(acc[t][q], sum[t][h], p, block, g, (size_t)t, (size_t)q, quant);
      }
    }
  }
}

INLINE void tile(const struct pio_tile *p, int tokens, uint32_t quant) {
  float32x4_t acc[TOKENS][4];
  UNROLL for (int t = 0; t < tokens; t++) {
    UNROLL for (int q = 0; q < 4; q++) acc[t][q] = pio_arm_begin(p, (size_t)t, (size_t)q);
  }
  for (size_t g = 0; g < p->count; g++) {
    add_group(acc, p, p->blocks + g * pio_arm_block_bytes(p->group, quant), g, tokens, quant);
  }
  UNROLL for (int t = 0; t < tokens; t++) pio_arm_finish(p, (size_t)t, acc[t]);
}

PIO_TILE_TABLE(tile, 4)

void pio_gemm_dotprod(float *y, size_t y_stride, const struct pio_matrix *w,
                      struct pio_activations x, size_t tokens, size_t block_begin, size_t block_end,
                      const float *bias, int accumulate) {
  PIO_RUN_GEMM(tiles[w->quant - PIO_INT8], TOKENS);
}

#pragma clang attribute pop
#endif
