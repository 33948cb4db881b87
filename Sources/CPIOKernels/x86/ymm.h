// Words of the products with 32-byte registers.
#ifndef PIO_YMM_H
#define PIO_YMM_H

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

enum { TOKENS = 4 };  // 8 running sums and 4 registers of codes and constants, of 16

INLINE __m256i four_values(const int8_t *values) {
  int32_t four;
  memcpy(&four, values, 4);
  return _mm256_set1_epi32(four);
}

#endif
