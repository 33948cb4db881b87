// The integer product with sdot: one 16-byte register is 4 rows x 4 columns, times 4 values of a
// token that come from a lane.
#include "../panel.h"
#include "../tables.h"

#if defined(__aarch64__)
#include "finish_group.h"

#pragma clang attribute push(__attribute__((target("arch=armv8.2-a+dotprod"))), apply_to = function)

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

// QUADS registers of 4 rows are done at a time: with few tokens all 16 rows, so that the weights
// are read once; with many a quarter, so that sums, floats and values have registers: 8 x 2 + 8.
enum { TOKENS = 8 };
#define QUADS(tokens) ((tokens) <= 2 ? 4 : (tokens) <= 4 ? 2 : 1)

// sum[t][h] += 4 columns (`lane` of the 16 in x[t]) x rows 4 h ... of codes[h].
#define STEP(codes, x, lane)                                        \
  UNROLL for (int t = 0; t < tokens; t++) {                         \
    UNROLL for (int h = 0; h < QUADS(tokens); h++) {                \
      sum[t][h] = vdotq_laneq_s32(sum[t][h], codes[h], x[t], lane); \
    }                                                               \
  }

// The columns 4 j ... or 16 + 4 j ... of a sub-block.
#define STEP_OF(half, j)                                                                \
  do {                                                                                  \
    int8x16_t w[QUADS(tokens)];                                                         \
    UNROLL for (int h = 0; h < QUADS(tokens); h++) {                                    \
      if (quant == PIO_INT8) {                                                          \
        uint8x16_t code = vld1q_u8(codes + 256 * (half) + 64 * (j) + 16 * h);           \
        w[h] = vreinterpretq_s8_u8(veorq_u8(code, flip));                               \
      } else {                                                                          \
        uint8x16_t both = vld1q_u8(codes + 64 * (j) + 16 * h);                          \
        w[h] = vreinterpretq_s8_u8((half) ? vshrq_n_u8(both, 4) : vandq_u8(both, low)); \
      }                                                                                 \
    }                                                                                   \
    STEP(w, x, j)                                                                       \
  } while (0)

INLINE void sub_block(int32x4_t sum[TOKENS][4], const uint8_t *codes, const int8_t *values,
                      size_t row, int tokens, uint32_t quant) {
  const uint8x16_t low = vdupq_n_u8(15), flip = vdupq_n_u8(0x80);
  int8x16_t x[TOKENS];
  UNROLL for (int t = 0; t < tokens; t++) x[t] = vld1q_s8(values + (size_t)t * row);
  STEP_OF(0, 0);
  STEP_OF(0, 1);
  STEP_OF(0, 2);
  STEP_OF(0, 3);
  UNROLL for (int t = 0; t < tokens; t++) x[t] = vld1q_s8(values + (size_t)t * row + 16);
  STEP_OF(1, 0);
  STEP_OF(1, 1);
  STEP_OF(1, 2);
  STEP_OF(1, 3);
  (void)low, (void)flip;
}

// acc[t][h] += one group, rows 4 (first + h) ...
INLINE void add_group(float32x4_t acc[TOKENS][4], const struct pio_tile *p, const uint8_t *block,
                      size_t g, int first, int tokens, uint32_t quant) {
  const size_t row = p->groups * p->group, sub_bytes = quant == PIO_INT8 ? 512 : 256;
  const int8_t *values = p->values + g * p->group;
  const uint8_t *codes = block + 16 * first;
  int32x4_t sum[TOKENS][4];
  UNROLL for (int t = 0; t < tokens; t++) {
    int32x4_t start = vld1q_s32(p->starts + 4 * (g * (size_t)tokens + (size_t)t));
    UNROLL for (int h = 0; h < QUADS(tokens); h++) sum[t][h] = start;
  }
  for (size_t sub = 0; sub < p->group / PIO_SUB; sub++) {
    sub_block(sum, codes, values, row, tokens, quant);
    codes += sub_bytes;
    values += PIO_SUB;
  }
  UNROLL for (int h = 0; h < QUADS(tokens); h++) {
    UNROLL for (int t = 0; t < tokens; t++) {
      acc[t][h] = pio_arm_add_group(acc[t][h], sum[t][h], p, block, g * (size_t)tokens + (size_t)t,
                                    (size_t)(first + h), quant);
    }
  }
}

INLINE void tile(const struct pio_tile *p, int tokens, uint32_t quant) {
  for (int first = 0; first < 4; first += QUADS(tokens)) {
    const uint8_t *block = p->blocks;
    float32x4_t acc[TOKENS][4];
    UNROLL for (int t = 0; t < tokens; t++) {
      UNROLL for (int h = 0; h < QUADS(tokens); h++) {
        acc[t][h] = pio_arm_begin(p, (size_t)t, (size_t)(first + h));
      }
    }
    for (size_t g = 0; g < p->count; g++) {
      add_group(acc, p, block, g, first, tokens, quant);
      block += pio_arm_block_bytes(p->group, quant);
    }
    UNROLL for (int t = 0; t < tokens; t++) {
      UNROLL for (int h = 0; h < QUADS(tokens); h++) {
        vst1q_f32(p->acc + PIO_ROWS * t + 4 * (first + h), acc[t][h]);
      }
    }
  }
  if (!p->last) return;
  for (int t = 0; t < tokens; t++) pio_finish_tile(p, (size_t)t);
}

PIO_TILE_TABLE(tile, 8)

void pio_gemm_dotprod(float *y, size_t y_stride, const struct pio_matrix *w,
                      struct pio_activations x, size_t tokens, size_t block_begin, size_t block_end,
                      const float *bias, int accumulate) {
  // Codes of int8 are made signed as they are read.
  PIO_RUN_GEMM_AS(tile_table[w->quant - PIO_INT8], TOKENS, 0, PIO_FOURFOLD,
                  w->quant == PIO_INT4 ? 8 : 0, PIO_SUM_START);
}

#pragma clang attribute pop
#endif
