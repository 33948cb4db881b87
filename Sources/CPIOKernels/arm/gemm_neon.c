// The integer product with plain NEON: one 16-byte register is 4 rows x 4 columns, times 4 values
// of a token that lie in it four times.
//
// Products are added in 16 bits. int4, codes from 0 to 15: 8 x 15 * 127 = 15,240 a lane over a
// sub-block, twice that when lanes are paired. int8: two steps, 2 * 128 * 127 = 32,512; then pairs
// are widened.
#include "../panel.h"
#include "../tables.h"

#if defined(__aarch64__)
#include "finish_group.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

// QUADS registers of 4 rows are done at a time: of one token all 16 rows, so that the weights are
// read once; of many a quarter, so that sums, floats and values have registers: 4 x (2 + 1 + 2).
enum { TOKENS = 4 };
#define QUADS(tokens) ((tokens) == 1 ? 4 : (tokens) == 2 ? 2 : 1)

// Four values of a token, lane `j` of its 16, four times: one instruction, where a load of four
// bytes is two and one for its address.
#define FOUR(x, j) vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(x), j))

// 4 rows x 4 columns: sum[0] rows 0 and 1, sum[1] rows 2 and 3, four lanes a row.
INLINE void multiply(int16x8_t sum[2], int8x16_t codes, int8x16_t x) {
  sum[0] = vmull_s8(vget_low_s8(codes), vget_low_s8(x));
  sum[1] = vmull_high_s8(codes, x);
}

INLINE void multiply_add(int16x8_t sum[2], int8x16_t codes, int8x16_t x) {
  sum[0] = vmlal_s8(sum[0], vget_low_s8(codes), vget_low_s8(x));
  sum[1] = vmlal_high_s8(sum[1], codes, x);
}

// Columns 4 j ... and 16 + 4 j ... of a sub-block of int4.
#define STEP_INT4(j)                                                   \
  UNROLL for (int h = 0; h < QUADS(tokens); h++) {                     \
    uint8x16_t both = vld1q_u8(codes + 64 * (j) + 16 * h);             \
    int8x16_t a = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15))); \
    int8x16_t b = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));            \
    UNROLL for (int t = 0; t < tokens; t++) {                          \
      if ((j) == 0) {                                                  \
        multiply(narrow[t][h], a, FOUR(x[t][0], j));                   \
      } else {                                                         \
        multiply_add(narrow[t][h], a, FOUR(x[t][0], j));               \
      }                                                                \
      multiply_add(narrow[t][h], b, FOUR(x[t][1], j));                 \
    }                                                                  \
  }

// sum[t][h] += 32 columns x rows 4 h ... of the codes.
INLINE void sub_block_int4(int32x4_t sum[TOKENS][4], const uint8_t *codes, const int8_t *values,
                           size_t row, int tokens) {
  int16x8_t narrow[TOKENS][4][2];
  int8x16_t x[TOKENS][2];
  UNROLL for (int t = 0; t < tokens; t++) {
    UNROLL for (int i = 0; i < 2; i++) x[t][i] = vld1q_s8(values + (size_t)t * row + 16 * i);
  }
  STEP_INT4(0)
  STEP_INT4(1)
  STEP_INT4(2)
  STEP_INT4(3)
  UNROLL for (int t = 0; t < tokens; t++) {
    UNROLL for (int h = 0; h < QUADS(tokens); h++) {
      sum[t][h] = vpadalq_s16(sum[t][h], vpaddq_s16(narrow[t][h][0], narrow[t][h][1]));
    }
  }
}

// Columns 4 j ... 4 j + 7 of 16 of int8, two lanes a row from here on.
#define STEP_INT8(j)                                                                            \
  UNROLL for (int h = 0; h < QUADS(tokens); h++) {                                              \
    const uint8_t *at = codes + 64 * (j) + 16 * h;                                              \
    int8x16_t a = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(at), vdupq_n_u8(0x80)));                \
    int8x16_t b = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(at + 64), vdupq_n_u8(0x80)));           \
    UNROLL for (int t = 0; t < tokens; t++) {                                                   \
      int16x8_t narrow[2];                                                                      \
      multiply(narrow, a, FOUR(x[t], j));                                                       \
      multiply_add(narrow, b, FOUR(x[t], (j) + 1));                                             \
      UNROLL for (int i = 0; i < 2; i++) wide[t][h][i] = vpadalq_s16(wide[t][h][i], narrow[i]); \
    }                                                                                           \
  }

// wide[t][h] += 16 columns x rows 4 h ... of the codes.
INLINE void half_block_int8(int32x4_t wide[TOKENS][4][2], const uint8_t *codes,
                            const int8_t *values, size_t row, int tokens) {
  int8x16_t x[TOKENS];
  UNROLL for (int t = 0; t < tokens; t++) x[t] = vld1q_s8(values + (size_t)t * row);
  STEP_INT8(0)
  STEP_INT8(2)
}

// sum[t][h] of one group, rows 4 h ... of the codes.
INLINE void group_sums(int32x4_t sum[TOKENS][4], const struct pio_tile *p, const uint8_t *codes,
                       size_t g, int tokens, uint32_t quant) {
  const size_t row = p->groups * p->group;
  const int8_t *values = p->values + g * p->group;
  if (quant != PIO_INT8) {
    UNROLL for (int t = 0; t < tokens; t++) {
      int32x4_t start = vld1q_s32(p->starts + 4 * (g * (size_t)tokens + (size_t)t));
      UNROLL for (int h = 0; h < QUADS(tokens); h++) sum[t][h] = start;
    }
    for (size_t i = 0; i < p->group; i += PIO_SUB) {
      sub_block_int4(sum, codes + 8 * i, values + i, row, tokens);
    }
    return;
  }
  // Half of the start in each of the two lanes of a row: it is even.
  int32x4_t wide[TOKENS][4][2];
  UNROLL for (int t = 0; t < tokens; t++) {
    UNROLL for (int h = 0; h < QUADS(tokens); h++) {
      wide[t][h][0] = wide[t][h][1] = vdupq_n_s32(PIO_SUM_START / 2);
    }
  }
  for (size_t i = 0; i < p->group; i += PIO_SUB) {
    half_block_int8(wide, codes + 16 * i, values + i, row, tokens);
    half_block_int8(wide, codes + 16 * i + 256, values + i + 16, row, tokens);
  }
  UNROLL for (int t = 0; t < tokens; t++) {
    UNROLL for (int h = 0; h < QUADS(tokens); h++) {
      sum[t][h] = vpaddq_s32(wide[t][h][0], wide[t][h][1]);
    }
  }
}

INLINE void tile(const struct pio_tile *p, int tokens, uint32_t quant) {
  const size_t block_bytes = pio_arm_block_bytes(p->group, quant);
  for (int first = 0; first < 4; first += QUADS(tokens)) {
    const uint8_t *block = p->blocks;
    float32x4_t acc[TOKENS][4];
    UNROLL for (int t = 0; t < tokens; t++) {
      UNROLL for (int h = 0; h < QUADS(tokens); h++) {
        acc[t][h] = pio_arm_begin(p, (size_t)t, (size_t)(first + h));
      }
    }
    for (size_t g = 0; g < p->count; g++, block += block_bytes) {
      int32x4_t sum[TOKENS][4];
      group_sums(sum, p, block + 16 * first, g, tokens, quant);
      UNROLL for (int t = 0; t < tokens; t++) {
        UNROLL for (int h = 0; h < QUADS(tokens); h++) {
          acc[t][h] = pio_arm_add_group(acc[t][h], sum[t][h], p, block,
                                        g * (size_t)tokens + (size_t)t, (size_t)(first + h), quant);
        }
      }
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

PIO_TILE_TABLE(tile, 4)

void pio_gemm_neon(float *y, size_t y_stride, const struct pio_matrix *w, struct pio_activations x,
                   size_t tokens, size_t block_begin, size_t block_end, const float *bias,
                   int accumulate) {
  PIO_RUN_GEMM_AS(tile_table[w->quant - PIO_INT8], TOKENS, 0, PIO_FOURFOLD,
                  w->quant == PIO_INT4 ? 8 : 0, PIO_SUM_START);
}

#endif
