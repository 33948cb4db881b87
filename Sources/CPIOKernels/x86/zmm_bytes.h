// The words of transposed_int8_body.h and attention_all_body.h with AVX-512.
#ifndef PIO_ZMM_BYTES_H
#define PIO_ZMM_BYTES_H

INLINE vi vi_or(vi a, vi b) {
  return _mm512_or_si512(a, b);
}
INLINE vi vi_set(int32_t x) {
  return _mm512_set1_epi32(x);
}
INLINE vi vi_words(const int32_t *p) {
  return _mm512_loadu_si512(p);
}
INLINE vf v_words(const int32_t *p) {
  return _mm512_castsi512_ps(vi_words(p));
}
INLINE void vi_store(int32_t *p, vi x) {
  _mm512_storeu_si512(p, x);
}
INLINE void v_store_i16(int16_t *p, vi x) {
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(x));
}

INLINE vi vi_max(vi a, vi b) {
  return _mm512_max_epi32(a, b);
}
INLINE int32_t vi_greatest(vi a) {
  return _mm512_reduce_max_epi32(a);
}
INLINE vi vi_bits(vf a) {
  return _mm512_castps_si512(a);
}
INLINE vi vi_and(vi a, int32_t bits) {
  return _mm512_and_si512(a, _mm512_set1_epi32(bits));
}
INLINE vi vi_whole(vf a) {
  return _mm512_cvtps_epi32(a);
}
INLINE vf v_whole(vi a) {
  return _mm512_cvtepi32_ps(a);
}
INLINE vi vi_left(vi a, int bits) {
  return _mm512_slli_epi32(a, (unsigned)bits);
}
INLINE vi vi_right(vi a, int bits) {
  return _mm512_srli_epi32(a, (unsigned)bits);
}
INLINE vi vi_sub(vi a, vi b) {
  return _mm512_sub_epi32(a, b);
}
INLINE vi vi_quad(vi a, int j) {
  return j == 0   ? _mm512_shuffle_epi32(a, 0x00)
         : j == 1 ? _mm512_shuffle_epi32(a, 0x55)
         : j == 2 ? _mm512_shuffle_epi32(a, 0xaa)
                  : _mm512_shuffle_epi32(a, 0xff);
}
INLINE void vi_transpose(vi out[4], const vi in[4]) {
  vi low = _mm512_unpacklo_epi8(in[0], in[1]), high = _mm512_unpackhi_epi8(in[0], in[1]);
  vi low2 = _mm512_unpacklo_epi8(in[2], in[3]), high2 = _mm512_unpackhi_epi8(in[2], in[3]);
  out[0] = _mm512_unpacklo_epi16(low, low2);
  out[1] = _mm512_unpackhi_epi16(low, low2);
  out[2] = _mm512_unpacklo_epi16(high, high2);
  out[3] = _mm512_unpackhi_epi16(high, high2);
}
INLINE void v_fold(float out[4], const vf *lanes, int step) {
  const __m256 low = _mm512_castps512_ps256(lanes[0]), high = _mm512_extractf32x8_ps(lanes[0], 1);
  const __m128 a = _mm_add_ps(_mm256_castps256_ps128(low), _mm256_extractf128_ps(low, 1));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(high), _mm256_extractf128_ps(high, 1));
  _mm_storeu_ps(out, _mm_add_ps(a, b));
  (void)step;
}

#endif
