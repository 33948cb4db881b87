// A vector of floats as the bodies in this folder use it: AVX2.
//
// `..._n` touches the first n lanes only and loads zeros behind them. v_max and v_min give `b`
// where `a` or `b` is a NaN. v_if_less: a < b ? x : y. v_times_power: y * 2^n for whole n, by the
// bits. v_bits: the lanes shifted left, then arithmetically right. v_store_i8 stores whole numbers
// in -128...127 and returns them. A tile of the products is TILE broadcast numbers x VECTORS
// vectors.
#include <immintrin.h>

#define PIO_ISA avx2
enum { WIDTH = 8, VECTORS = 2, TILE = 6 };

typedef __m256 vf;
typedef __m256i vi;

static inline vf v_set(float x) {
  return _mm256_set1_ps(x);
}
static inline vf v_load(const float *p) {
  return _mm256_loadu_ps(p);
}
static inline __m256i first_lanes(size_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vf v_load_n(const float *p, size_t n) {
  return _mm256_maskload_ps(p, first_lanes(n));
}
static inline void v_store(float *p, vf x) {
  _mm256_storeu_ps(p, x);
}
static inline void v_store_n(float *p, vf x, size_t n) {
  _mm256_maskstore_ps(p, first_lanes(n), x);
}
static inline vf v_add(vf a, vf b) {
  return _mm256_add_ps(a, b);
}
static inline vf v_sub(vf a, vf b) {
  return _mm256_sub_ps(a, b);
}
static inline vf v_mul(vf a, vf b) {
  return _mm256_mul_ps(a, b);
}
static inline vf v_div(vf a, vf b) {
  return _mm256_div_ps(a, b);
}
static inline vf v_fma(vf a, vf b, vf c) {
  return _mm256_fmadd_ps(a, b, c);
}
static inline vf v_max(vf a, vf b) {
  return _mm256_max_ps(a, b);
}
static inline vf v_min(vf a, vf b) {
  return _mm256_min_ps(a, b);
}
static inline vf v_abs(vf a) {
  return _mm256_andnot_ps(v_set(-0.0f), a);
}
static inline vf v_copysign(vf a, vf sign) {
  return _mm256_or_ps(v_abs(a), _mm256_and_ps(sign, v_set(-0.0f)));
}
static inline vf v_round(vf a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf v_if_less(vf a, vf b, vf x, vf y) {
  return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
static inline float v_sum(vf a) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
static inline float v_greatest(vf a) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
static inline vf v_times_power(vf y, vf n) {
  vi shifted = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(y), shifted));
}
static inline vf v_load_f16(const uint16_t *p) {
  return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
static inline vf v_load_bf16(const uint16_t *p) {
  vi wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
static inline vf v_load_i8(const int8_t *p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline void v_store_f16(uint16_t *p, vf x) {
  _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}
static inline vi v_store_i8(int8_t *p, vf x) {
  vi whole = _mm256_cvtps_epi32(x);
  __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(half, half));
  return whole;
}
static inline vi vi_zero(void) {
  return _mm256_setzero_si256();
}
static inline vi vi_add(vi a, vi b) {
  return _mm256_add_epi32(a, b);
}
static inline int32_t vi_sum(vi a) {
  __m128i x = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}
static inline vi vi_load(const uint8_t *p) {
  return _mm256_loadu_si256((const __m256i *)p);
}
static inline vi vi_xor(vi x, int32_t bits) {
  return _mm256_xor_si256(x, _mm256_set1_epi32(bits));
}
static inline vf v_bits(vi x, int left, int right) {
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(x, left), right));
}
