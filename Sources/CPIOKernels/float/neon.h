// A vector of floats as the bodies in this folder use it: NEON. See avx2.h for the words;
// here v_max and v_min give a NaN where `a` or `b` is one.
#include <arm_neon.h>

#define PIO_ISA neon
enum { WIDTH = 4, VECTORS = 4, TILE = 4 };

typedef float32x4_t vf;
typedef int32x4_t vi;

static inline vf v_set(float x) {
  return vdupq_n_f32(x);
}
static inline vf v_load(const float *p) {
  return vld1q_f32(p);
}
static inline vf v_load_n(const float *p, size_t n) {
  float lanes[4] = {0};
  for (size_t i = 0; i < n; i++) lanes[i] = p[i];
  return vld1q_f32(lanes);
}
static inline void v_store(float *p, vf x) {
  vst1q_f32(p, x);
}
static inline void v_store_n(float *p, vf x, size_t n) {
  float lanes[4];
  vst1q_f32(lanes, x);
  for (size_t i = 0; i < n; i++) p[i] = lanes[i];
}
static inline vf v_add(vf a, vf b) {
  return vaddq_f32(a, b);
}
static inline vf v_sub(vf a, vf b) {
  return vsubq_f32(a, b);
}
static inline vf v_mul(vf a, vf b) {
  return vmulq_f32(a, b);
}
static inline vf v_div(vf a, vf b) {
  return vdivq_f32(a, b);
}
static inline vf v_fma(vf a, vf b, vf c) {
  return vfmaq_f32(c, a, b);
}
static inline vf v_max(vf a, vf b) {
  return vmaxq_f32(a, b);
}
static inline vf v_min(vf a, vf b) {
  return vminq_f32(a, b);
}
static inline vf v_abs(vf a) {
  return vabsq_f32(a);
}
static inline vf v_copysign(vf a, vf sign) {
  return vbslq_f32(vdupq_n_u32(0x80000000), sign, a);
}
static inline vf v_round(vf a) {
  return vrndnq_f32(a);
}
static inline vf v_if_less(vf a, vf b, vf x, vf y) {
  return vbslq_f32(vcltq_f32(a, b), x, y);
}
static inline float v_sum(vf a) {
  return vaddvq_f32(a);
}
static inline float v_greatest(vf a) {
  return vmaxvq_f32(a);
}
static inline vf v_times_power(vf y, vf n) {
  vi shifted = vshlq_n_s32(vcvtnq_s32_f32(n), 23);
  return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(y), shifted));
}
static inline vf v_load_f16(const uint16_t *p) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline vf v_load_bf16(const uint16_t *p) {
  return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
static inline vf v_load_i8(const int8_t *p) {
  int32_t four;
  memcpy(&four, p, 4);
  int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}
static inline void v_store_f16(uint16_t *p, vf x) {
  vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x)));
}
static inline vi v_store_i8(int8_t *p, vf x) {
  vi whole = vcvtnq_s32_f32(x);
  int16x4_t half = vmovn_s32(whole);
  int32_t four = vget_lane_s32(vreinterpret_s32_s8(vmovn_s16(vcombine_s16(half, half))), 0);
  memcpy(p, &four, 4);
  return whole;
}
static inline vi vi_zero(void) {
  return vdupq_n_s32(0);
}
static inline vi vi_add(vi a, vi b) {
  return vaddq_s32(a, b);
}
static inline int32_t vi_sum(vi a) {
  return vaddvq_s32(a);
}
static inline vi vi_load(const uint8_t *p) {
  return vreinterpretq_s32_u8(vld1q_u8(p));
}
static inline vi vi_xor(vi x, int32_t bits) {
  return veorq_s32(x, vdupq_n_s32(bits));
}
static inline vf v_bits(vi x, int left, int right) {
  return vcvtq_f32_s32(vshlq_s32(vshlq_s32(x, vdupq_n_s32(left)), vdupq_n_s32(-right)));
}
