// The words of transposed_int8_body.h that every aarch64 has.
#ifndef PIO_ARM_BYTES_H
#define PIO_ARM_BYTES_H

enum { SIGNED_CODES = 1 };

INLINE vi vi_max(vi a, vi b) {
  return vmaxq_s32(a, b);
}
INLINE int32_t vi_greatest(vi a) {
  return vmaxvq_s32(a);
}
INLINE vi vi_bits(vf a) {
  return vreinterpretq_s32_f32(a);
}
INLINE vi vi_and(vi a, int32_t bits) {
  return vandq_s32(a, vdupq_n_s32(bits));
}
INLINE vi vi_whole(vf a) {
  return vcvtnq_s32_f32(a);
}
INLINE vf v_whole(vi a) {
  return vcvtq_f32_s32(a);
}
INLINE vi vi_left(vi a, int bits) {
  return vshlq_s32(a, vdupq_n_s32(bits));
}
INLINE vi vi_right(vi a, int bits) {
  return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-bits)));
}
INLINE vi vi_sub(vi a, vi b) {
  return vsubq_s32(a, b);
}
INLINE vi vi_quad(vi a, int j) {
  return j == 0   ? vdupq_laneq_s32(a, 0)
         : j == 1 ? vdupq_laneq_s32(a, 1)
         : j == 2 ? vdupq_laneq_s32(a, 2)
                  : vdupq_laneq_s32(a, 3);
}
INLINE void vi_transpose(vi out[4], const vi in[4]) {
  int8x16_t bytes[4];
  UNROLL for (int i = 0; i < 4; i++) bytes[i] = vreinterpretq_s8_s32(in[i]);
  int16x8_t low = vreinterpretq_s16_s8(vzip1q_s8(bytes[0], bytes[1]));
  int16x8_t high = vreinterpretq_s16_s8(vzip2q_s8(bytes[0], bytes[1]));
  int16x8_t low2 = vreinterpretq_s16_s8(vzip1q_s8(bytes[2], bytes[3]));
  int16x8_t high2 = vreinterpretq_s16_s8(vzip2q_s8(bytes[2], bytes[3]));
  out[0] = vreinterpretq_s32_s16(vzip1q_s16(low, low2));
  out[1] = vreinterpretq_s32_s16(vzip2q_s16(low, low2));
  out[2] = vreinterpretq_s32_s16(vzip1q_s16(high, high2));
  out[3] = vreinterpretq_s32_s16(vzip2q_s16(high, high2));
}
INLINE void v_fold(float out[4], const vf *lanes, int step) {
  vst1q_f32(out, vaddq_f32(vaddq_f32(lanes[0], lanes[step]),
                           vaddq_f32(lanes[2 * step], lanes[3 * step])));
}

#endif
