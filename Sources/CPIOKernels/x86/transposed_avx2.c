// The transposed product in 8 bits with AVX2: |code| x the value with the code's sign, as in
// gemm_avx2.c.
#include "../float/names.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#include "../float/avx2.h"
#include "ymm_bytes.h"

enum { SIGNED_CODES = 1 };

INLINE vi vi_dot(vi sum, vi codes, vi values) {
  vi pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(values, codes));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#include "../float/transposed_int8_body.h"
#pragma clang attribute pop
#endif
