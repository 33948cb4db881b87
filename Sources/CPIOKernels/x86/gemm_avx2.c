// The integer product with AVX2: two 32-byte registers are 16 rows x 4 columns.
//
// vpmaddubsw adds pairs of unsigned x signed products into 16 bits and saturates. Codes of 4 bits:
// a pair is at most 2 * 15 * 127 = 3,810, so the 8 steps of a sub-block fit (30,480) and are
// widened once. Codes of 8 bits: |code - 128| x the value with the sign of code - 128, a pair is at
// most 2 * 128 * 127 = 32,512; widened at every step.
#include "../panel.h"
#include "../tables.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#include "ymm.h"

enum { SIGNED_CODES = 1 };

// 32 columns of int4: sum[t][h] += codes * values, rows 8 h ... 8 h + 7.
INLINE void sub_block_int4(__m256i sum[TOKENS][2], const uint8_t *codes, const int8_t *values,
                           size_t row, int tokens) {
  const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  __m256i narrow[TOKENS][2];
  UNROLL for (int t = 0; t < tokens; t++) {
    narrow[t][0] = narrow[t][1] = _mm256_setzero_si256();
  }
  UNROLL for (int j = 0; j < 4; j++) {
    __m256i a = _mm256_loadu_si256((const __m256i *)(codes + 64 * j));
    __m256i b = _mm256_loadu_si256((const __m256i *)(codes + 64 * j + 32));
    __m256i a_low = _mm256_and_si256(a, low), b_low = _mm256_and_si256(b, low);
    UNROLL for (int t = 0; t < tokens; t++) {
      __m256i x = four_values(values + (size_t)t * row + 4 * j);
      narrow[t][0] = _mm256_add_epi16(narrow[t][0], _mm256_maddubs_epi16(a_low, x));
      narrow[t][1] = _mm256_add_epi16(narrow[t][1], _mm256_maddubs_epi16(b_low, x));
    }
    __m256i a_high = _mm256_and_si256(_mm256_srli_epi16(a, 4), low);
    __m256i b_high = _mm256_and_si256(_mm256_srli_epi16(b, 4), low);
    UNROLL for (int t = 0; t < tokens; t++) {
      __m256i x = four_values(values + (size_t)t * row + 16 + 4 * j);
      narrow[t][0] = _mm256_add_epi16(narrow[t][0], _mm256_maddubs_epi16(a_high, x));
      narrow[t][1] = _mm256_add_epi16(narrow[t][1], _mm256_maddubs_epi16(b_high, x));
    }
  }
  UNROLL for (int t = 0; t < tokens; t++) {
    UNROLL for (int h = 0; h < 2; h++) {
      sum[t][h] = _mm256_add_epi32(sum[t][h], _mm256_madd_epi16(narrow[t][h], ones));
    }
  }
}

// 32 columns of int8: sum[t][h] += (codes - 128) * values.
INLINE void sub_block_int8(__m256i sum[TOKENS][2], const uint8_t *codes, const int8_t *values,
                           size_t row, int tokens) {
  const __m256i ones = _mm256_set1_epi16(1), flip = _mm256_set1_epi8(-128);
  UNROLL for (int j = 0; j < 8; j++) {
    __m256i w[2];
    UNROLL for (int h = 0; h < 2; h++) {
      w[h] = _mm256_loadu_si256((const __m256i *)(codes + 64 * j + 32 * h));
      w[h] = _mm256_xor_si256(w[h], flip);
    }
    UNROLL for (int t = 0; t < tokens; t++) {
      __m256i x = four_values(values + (size_t)t * row + 4 * j);
      UNROLL for (int h = 0; h < 2; h++) {
        __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w[h]), _mm256_sign_epi8(x, w[h]));
        sum[t][h] = _mm256_add_epi32(sum[t][h], _mm256_madd_epi16(pairs, ones));
      }
    }
  }
}

#include "gemm_ymm.h"

void pio_gemm_avx2(float *y, size_t y_stride, const struct pio_matrix *w, struct pio_activations x,
                   size_t tokens, size_t block_begin, size_t block_end, const float *bias,
                   int accumulate) {
  PIO_RUN_GEMM(tile_table[w->quant - PIO_INT8], TOKENS, 0);
}

#pragma clang attribute pop
#endif
