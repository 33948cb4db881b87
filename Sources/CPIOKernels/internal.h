// What the files of this module share. Included after CPIOKernels.h by every file here.
#ifndef PIO_INTERNAL_H
#define PIO_INTERNAL_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "CPIOKernels.h"

#pragma STDC FP_CONTRACT OFF

// Floats that an attention call may write: `pio_attention_scratch`, where a constant is needed.
#define PIO_ATTENTION_SCRATCH(head_dim) (128 * ((head_dim) + 16) + 2048)

// The same of `pio_attention_all` in whole numbers.
#define PIO_ATTENTION_ALL_SCRATCH(head_dim) \
  (PIO_ALL_ROWS * (3 * (head_dim) / 2 + 3) + 64 * ((head_dim) + 32) + 64)

enum { PIO_ROWS = 16, PIO_SUB = 32 };  // rows of a block, columns of a sub-block

static inline size_t pio_groups(size_t cols, uint32_t group) {
  return (cols + group - 1) / group;
}

static inline size_t pio_codes_bytes(uint32_t quant, uint32_t group) {
  return (size_t)PIO_ROWS * group / (quant == PIO_INT8 ? 1 : 2);
}

// The value that stands for zero in the codes of a kind.
static inline int32_t pio_zero(uint32_t quant) {
  return quant == PIO_INT8 ? 128 : quant == PIO_INT4 ? 8 : 0;
}

static inline const uint8_t *pio_block(const struct pio_matrix *w, size_t row_block, size_t group) {
  size_t index = row_block * pio_groups(w->cols, w->group) + group;
  return w->blocks + index * pio_block_bytes(w->quant, w->group);
}

// The scale (plane 0) or minimum (plane 1) of row `row` of a block.
static inline float pio_block_scale(const uint8_t *block, uint32_t quant, uint32_t group,
                                    size_t plane, size_t row) {
  uint16_t bits;
  memcpy(&bits, block + pio_codes_bytes(quant, group) + 2 * (PIO_ROWS * plane + row), sizeof bits);
  return pio_f16_to_f32(bits);
}

// The code of (row, col) of a block.
static inline int32_t pio_block_code(const uint8_t *block, uint32_t quant, size_t row, size_t col) {
  size_t sub = col / PIO_SUB, in = col % PIO_SUB;
  if (quant == PIO_INT8) return block[512 * sub + 64 * (in / 4) + 4 * row + in % 4];
  size_t half = in % 16;
  uint8_t byte = block[256 * sub + 64 * (half / 4) + 4 * row + half % 4];
  return in < 16 ? byte & 15 : byte >> 4;
}

static inline float pio_from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static inline uint32_t pio_to_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

typedef struct {
  float scale;
  int32_t sum;
} pio_quantized;

// Quantizes `count` numbers with one scale; see `pio_quantize`.
static inline pio_quantized pio_quantize_run(int8_t *values, const float *x, size_t count) {
  float max = 0, poison = 0;  // poison becomes NaN with the first NaN or infinity
  for (size_t i = 0; i < count; i++) {
    max = fmaxf(max, fabsf(x[i]));
    poison += x[i] - x[i];
  }
  float scale = max / 127;
  int32_t sum = 0;
  if (poison != poison || scale == 0) {
    memset(values, 0, count);
    return (pio_quantized){poison != poison ? NAN : 0, 0};
  }
  for (size_t i = 0; i < count; i++) {
    float rounded = rintf(x[i] / scale);
    rounded = rounded > 127 ? 127 : rounded < -127 ? -127 : rounded;  // a subnormal scale is coarse
    values[i] = (int8_t)rounded;
    sum += values[i];
  }
  return (pio_quantized){scale, sum};
}

// How the derivatives of a stripe become bytes, from the bits of the greatest absolute one: see
// `gemm_transposed_int8`. NaN and infinity are above all others as whole numbers, too.
typedef struct {
  float scale, inverse;
} pio_step;

static inline pio_step pio_transposed_step(uint32_t greatest) {
  float max = pio_from_bits(greatest);
  if (greatest >= 0x7f800000) return (pio_step){NAN, 0};
  if (max < 0x1p-100f) return (pio_step){0, 0};
  return (pio_step){max * (1.0f / 127), 127 / max};
}

// Sums of 16 rows' lanes to four, in the order that every version keeps.
static inline void pio_transposed_fold(float out[4], const float lanes[PIO_ROWS]) {
  for (size_t i = 0; i < 4; i++) {
    out[i] = (lanes[i] + lanes[4 + i]) + (lanes[8 + i] + lanes[12 + i]);
  }
}

// exp, relative error below 2^-22 where the result is in [2^-126, 2^127); 0 below, infinity above.
// x = n ln 2 + r; exp(r) = 1 + r + r^2 q(r), |r| <= ln 2 / 2, q fitted to 3e-9. Every SIMD version
// takes these steps in this order and returns these bits.
#define PIO_EXP_LOW -87.336544f
#define PIO_EXP_HIGH 88.029692f
#define PIO_LOG2_E 1.44269504f
#define PIO_LN2_HIGH 0.693359375f
#define PIO_LN2_LOW -2.12194440e-4f
#define PIO_EXP_Q0 0x1.fffffcp-2f
#define PIO_EXP_Q1 0x1.555492p-3f
#define PIO_EXP_Q2 0x1.5558f2p-5f
#define PIO_EXP_Q3 0x1.123a2p-7f
#define PIO_EXP_Q4 0x1.6a23ccp-10f

static inline float pio_exp(float x) {
  if (x < PIO_EXP_LOW) return 0;
  if (x > PIO_EXP_HIGH) return INFINITY;
  if (x != x) return x;
  float n = rintf(x * PIO_LOG2_E);
  float r = fmaf(n, -PIO_LN2_LOW, fmaf(n, -PIO_LN2_HIGH, x));
  float q = fmaf(PIO_EXP_Q4, r, PIO_EXP_Q3);
  q = fmaf(q, r, PIO_EXP_Q2);
  q = fmaf(q, r, PIO_EXP_Q1);
  q = fmaf(q, r, PIO_EXP_Q0);
  float y = fmaf(r * r, q, r) + 1;
  return pio_from_bits(pio_to_bits(y) + ((uint32_t)(int32_t)n << 23));
}

// erf, absolute error below 2^-22. |x| <= 1: x p(x^2), p fitted to 2e-9; above: 1 - exp(g(|x|)), g
// fitted so that exp(g) is right to 3e-11; 1 from 4 on.
#define PIO_SQRT_HALF 0.707106781f
#define PIO_ERF_P0 1.1283791657f
#define PIO_ERF_P1 -0.3761262582f
#define PIO_ERF_P2 0.1128358515f
#define PIO_ERF_P3 -0.0268538119f
#define PIO_ERF_P4 0.0051883276f
#define PIO_ERF_P5 -0.0008010193f
#define PIO_ERF_P6 0.0000785386f
#define PIO_ERF_G0 0.0001880402f
#define PIO_ERF_G1 -1.1295784242f
#define PIO_ERF_G2 -0.6332198931f
#define PIO_ERF_G3 -0.1084185773f
#define PIO_ERF_G4 0.0252082567f
#define PIO_ERF_G5 -0.0042045619f
#define PIO_ERF_G6 0.0004413364f
#define PIO_ERF_G7 -0.0000216869f

static inline float pio_erf(float x) {
  float a = fabsf(x), s = x * x;
  if (a <= 1) {
    float p = fmaf(PIO_ERF_P6, s, PIO_ERF_P5);
    p = fmaf(p, s, PIO_ERF_P4);
    p = fmaf(p, s, PIO_ERF_P3);
    p = fmaf(p, s, PIO_ERF_P2);
    p = fmaf(p, s, PIO_ERF_P1);
    return x * fmaf(p, s, PIO_ERF_P0);
  }
  if (a > 4) a = 4;
  float g = fmaf(PIO_ERF_G7, a, PIO_ERF_G6);
  g = fmaf(g, a, PIO_ERF_G5);
  g = fmaf(g, a, PIO_ERF_G4);
  g = fmaf(g, a, PIO_ERF_G3);
  g = fmaf(g, a, PIO_ERF_G2);
  g = fmaf(g, a, PIO_ERF_G1);
  return copysignf(1 - pio_exp(fmaf(g, a, PIO_ERF_G0)), x);
}

// gelu (tanh) and quick gelu are x * sigmoid(u): u = 2 sqrt(2/pi) (x + 0.044715 x^3), 1.702 x.
#define PIO_GELU_A 1.5957691216f
#define PIO_GELU_B 0.0713548163f
#define PIO_GELU_QUICK 1.702f

static inline float pio_gelu_argument(float x, int kind) {
  return kind == 1 ? x * fmaf(PIO_GELU_B, x * x, PIO_GELU_A) : PIO_GELU_QUICK * x;
}

#endif
