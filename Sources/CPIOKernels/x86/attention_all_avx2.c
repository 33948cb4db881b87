// Attention in 16 bits with vpmaddwd.
#include "../float/names.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#include "../float/avx2.h"
#include "ymm_bytes.h"

#undef PIO_ISA
#define PIO_ISA avx2
enum { ALL_TILE = 4, ALL_VECTORS = 2 };

INLINE vi vi_dot16(vi sum, vi a, vi b) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

#include "../float/attention_all_body.h"
#pragma clang attribute pop
#endif
