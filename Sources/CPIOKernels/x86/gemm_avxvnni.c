// The integer product with vpdpbusd in 32-byte registers: small x86 boards without AVX-512.
#include "../panel.h"
#include "../tables.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,avxvnni,fma,f16c"))), apply_to = function)
#include "ymm.h"

enum { SIGNED_CODES = 0 };

INLINE void dot4s(__m256i sum[TOKENS][2], __m256i low_rows, __m256i high_rows, const int8_t *values,
                  size_t row, int tokens) {
  UNROLL for (int t = 0; t < tokens; t++) {
    const __m256i x = four_values(values + (size_t)t * row);
    sum[t][0] = _mm256_dpbusd_avx_epi32(sum[t][0], low_rows, x);
    sum[t][1] = _mm256_dpbusd_avx_epi32(sum[t][1], high_rows, x);
  }
}

INLINE void sub_block_int4(__m256i sum[TOKENS][2], const uint8_t *codes, const int8_t *values,
                           size_t row, int tokens) {
  const __m256i low = _mm256_set1_epi8(15);
  UNROLL for (int j = 0; j < 4; j++) {
    const __m256i a = _mm256_loadu_si256((const __m256i *)(codes + 64 * j));
    const __m256i b = _mm256_loadu_si256((const __m256i *)(codes + 64 * j + 32));
    dot4s(sum, _mm256_and_si256(a, low), _mm256_and_si256(b, low), values + 4 * j, row, tokens);
    dot4s(sum, _mm256_and_si256(_mm256_srli_epi16(a, 4), low),
          _mm256_and_si256(_mm256_srli_epi16(b, 4), low), values + 16 + 4 * j, row, tokens);
  }
}

INLINE void sub_block_int8(__m256i sum[TOKENS][2], const uint8_t *codes, const int8_t *values,
                           size_t row, int tokens) {
  UNROLL for (int j = 0; j < 8; j++) {
    dot4s(sum, _mm256_loadu_si256((const __m256i *)(codes + 64 * j)),
          _mm256_loadu_si256((const __m256i *)(codes + 64 * j + 32)), values + 4 * j, row, tokens);
  }
}

#include "gemm_ymm.h"

void pio_gemm_avxvnni(float *y, size_t y_stride, const struct pio_matrix *w,
                      struct pio_activations x, size_t tokens, size_t block_begin, size_t block_end,
                      const float *bias, int accumulate) {
  PIO_RUN_GEMM(tile_table[w->quant - PIO_INT8], TOKENS, 0);
}

#pragma clang attribute pop
#endif
