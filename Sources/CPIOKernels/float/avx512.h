// A vector of floats as the bodies in this folder use it: AVX-512. See avx2.h for the words.
#include <immintrin.h>

#define PIO_ISA avx512
enum { WIDTH = 16, VECTORS = 2, TILE = 8 };

typedef __m512 vf;
typedef __m512i vi;

static inline __mmask16 first_lanes(size_t n) {
  return (__mmask16)((1u << n) - 1);
}
static inline vf v_set(float x) {
  return _mm512_set1_ps(x);
}
static inline vf v_load(const float *p) {
  return _mm512_loadu_ps(p);
}
static inline vf v_load_n(const float *p, size_t n) {
  return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
static inline void v_store(float *p, vf x) {
  _mm512_storeu_ps(p, x);
}
static inline void v_store_n(float *p, vf x, size_t n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), x);
}
static inline vf v_add(vf a, vf b) {
  return _mm512_add_ps(a, b);
}
static inline vf v_sub(vf a, vf b) {
  return _mm512_sub_ps(a, b);
}
static inline vf v_mul(vf a, vf b) {
  return _mm512_mul_ps(a, b);
}
static inline vf v_div(vf a, vf b) {
  return _mm512_div_ps(a, b);
}
static inline vf v_fma(vf a, vf b, vf c) {
  return _mm512_fmadd_ps(a, b, c);
}
static inline vf v_max(vf a, vf b) {
  return _mm512_max_ps(a, b);
}
static inline vf v_min(vf a, vf b) {
  return _mm512_min_ps(a, b);
}
static inline vf v_abs(vf a) {
  return _mm512_abs_ps(a);
}
static inline vf v_copysign(vf a, vf sign) {
  return _mm512_or_ps(v_abs(a), _mm512_and_ps(sign, v_set(-0.0f)));
}
static inline vf v_round(vf a) {
  return _mm512_roundscale_ps(a, 8);
}
static inline vf v_if_less(vf a, vf b, vf x, vf y) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
static inline float v_sum(vf a) {
  return _mm512_reduce_add_ps(a);
}
static inline float v_greatest(vf a) {
  return _mm512_reduce_max_ps(a);
}
static inline vf v_times_power(vf y, vf n) {
  vi shifted = _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23);
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(y), shifted));
}
static inline vf v_load_f16(const uint16_t *p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline vf v_load_bf16(const uint16_t *p) {
  vi wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
static inline vf v_load_i8(const int8_t *p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline void v_store_f16(uint16_t *p, vf x) {
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
static inline vi v_store_i8(int8_t *p, vf x) {
  vi whole = _mm512_cvtps_epi32(x);
  _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(whole));
  return whole;
}
static inline vi vi_zero(void) {
  return _mm512_setzero_si512();
}
static inline vi vi_add(vi a, vi b) {
  return _mm512_add_epi32(a, b);
}
static inline int32_t vi_sum(vi a) {
  return _mm512_reduce_add_epi32(a);
}
static inline vi vi_load(const uint8_t *p) {
  return _mm512_loadu_si512(p);
}
static inline vi vi_xor(vi x, int32_t bits) {
  return _mm512_xor_si512(x, _mm512_set1_epi32(bits));
}
static inline vf v_bits(vi x, int left, int right) {
  return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(x, left), right));
}
