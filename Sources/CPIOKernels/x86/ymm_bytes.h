// The words of transposed_int8_body.h and attention_all_body.h that every AVX2 has.
#ifndef PIO_YMM_BYTES_H
#define PIO_YMM_BYTES_H

INLINE vi vi_or(vi a, vi b) {
  return _mm256_or_si256(a, b);
}
INLINE vi vi_set(int32_t x) {
  return _mm256_set1_epi32(x);
}
INLINE vi vi_words(const int32_t *p) {
  return _mm256_loadu_si256((const __m256i *)p);
}
INLINE vf v_words(const int32_t *p) {
  return _mm256_castsi256_ps(vi_words(p));
}
INLINE void vi_store(int32_t *p, vi x) {
  _mm256_storeu_si256((__m256i *)p, x);
}
INLINE void v_store_i16(int16_t *p, vi x) {
  const __m128i low = _mm256_castsi256_si128(x), high = _mm256_extracti128_si256(x, 1);
  _mm_storeu_si128((__m128i *)p, _mm_packs_epi32(low, high));
}

INLINE vi vi_max(vi a, vi b) {
  return _mm256_max_epi32(a, b);
}
INLINE int32_t vi_greatest(vi a) {
  __m128i half = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
}
INLINE vi vi_bits(vf a) {
  return _mm256_castps_si256(a);
}
INLINE vi vi_and(vi a, int32_t bits) {
  return _mm256_and_si256(a, _mm256_set1_epi32(bits));
}
INLINE vi vi_whole(vf a) {
  return _mm256_cvtps_epi32(a);
}
INLINE vf v_whole(vi a) {
  return _mm256_cvtepi32_ps(a);
}
INLINE vi vi_left(vi a, int bits) {
  return _mm256_slli_epi32(a, bits);
}
INLINE vi vi_right(vi a, int bits) {
  return _mm256_srli_epi32(a, bits);
}
INLINE vi vi_sub(vi a, vi b) {
  return _mm256_sub_epi32(a, b);
}
INLINE vi vi_quad(vi a, int j) {
  return j == 0   ? _mm256_shuffle_epi32(a, 0x00)
         : j == 1 ? _mm256_shuffle_epi32(a, 0x55)
         : j == 2 ? _mm256_shuffle_epi32(a, 0xaa)
                  : _mm256_shuffle_epi32(a, 0xff);
}
INLINE void vi_transpose(vi out[4], const vi in[4]) {
  vi low = _mm256_unpacklo_epi8(in[0], in[1]), high = _mm256_unpackhi_epi8(in[0], in[1]);
  vi low2 = _mm256_unpacklo_epi8(in[2], in[3]), high2 = _mm256_unpackhi_epi8(in[2], in[3]);
  out[0] = _mm256_unpacklo_epi16(low, low2);
  out[1] = _mm256_unpackhi_epi16(low, low2);
  out[2] = _mm256_unpacklo_epi16(high, high2);
  out[3] = _mm256_unpackhi_epi16(high, high2);
}
INLINE void v_fold(float out[4], const vf *lanes, int step) {
  const __m256 low = lanes[0], high = lanes[step];
  const __m128 a = _mm_add_ps(_mm256_castps256_ps128(low), _mm256_extractf128_ps(low, 1));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(high), _mm256_extractf128_ps(high, 1));
  _mm_storeu_ps(out, _mm_add_ps(a, b));
}

#endif
