// What the three integer products of ARM share: from a group's integer sums to floats.
#ifndef PIO_FINISH_GROUP_H
#define PIO_FINISH_GROUP_H

#include <arm_neon.h>

#include "../panel.h"

// 1.5 x 2^23, whose last bit is worth 1. Sums of integers begin with the float's bits: below 2^22
// in size (128 x 128 x 127 is), they leave the bits of PIO_SUM_BASE + sum, exactly, and taking the
// base away is the conversion: half a cycle, where scvtf keeps one of two units busy for two.
#define PIO_SUM_BASE 12582912.0f
enum { PIO_SUM_START = 0x4b400000 };

static inline float32x4_t pio_arm_float(int32x4_t sum) {
  return vsubq_f32(vreinterpretq_f32_s32(sum), vdupq_n_f32(PIO_SUM_BASE));
}

static inline size_t pio_arm_block_bytes(size_t group, uint32_t quant) {
  return group * (quant == PIO_INT8 ? 16 : 8) + (quant == PIO_INT4_AFFINE ? 64 : 32);
}

// Scales (plane 0) or minima (plane 1) of rows 4 q ... 4 q + 3.
static inline float32x4_t pio_arm_plane(const uint8_t *block, size_t group, uint32_t quant,
                                        size_t plane, size_t q) {
  const uint8_t *planes = block + group * (quant == PIO_INT8 ? 16 : 8);
  return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(planes + 32 * plane + 8 * q)));
}

// acc + one group of a token, rows 4 q ... 4 q + 3, with a sum that began with PIO_SUM_START; `at`:
// of the tile's groups and tokens.
static inline float32x4_t pio_arm_add_group(float32x4_t acc, int32x4_t sum,
                                            const struct pio_tile *p, const uint8_t *block,
                                            size_t at, size_t q, uint32_t quant) {
  float32x4_t scale = pio_arm_plane(block, p->group, quant, 0, q);
  acc = vfmaq_f32(acc, pio_arm_float(sum), vmulq_n_f32(scale, p->scales[at]));
  if (quant == PIO_INT4_AFFINE) {
    float32x4_t minimum = pio_arm_plane(block, p->group, quant, 1, q);
    acc = vfmaq_f32(acc, minimum, vdupq_n_f32(p->shifts[at]));
  }
  return acc;
}

// What rows 4 q ... of token t have summed up so far.
static inline float32x4_t pio_arm_begin(const struct pio_tile *p, size_t t, size_t q) {
  return p->first ? vdupq_n_f32(0) : vld1q_f32(p->acc + PIO_ROWS * t + 4 * q);
}

static inline void pio_arm_finish(const struct pio_tile *p, size_t t, const float32x4_t acc[4]) {
  for (int q = 0; q < 4; q++) vst1q_f32(p->acc + PIO_ROWS * t + 4 * q, acc[q]);
  if (p->last) pio_finish_tile(p, t);
}

#endif
