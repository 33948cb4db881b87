// Attention in 16 bits with vpdpwssd in 32-byte registers.
#include "../float/names.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,avxvnni,fma,f16c"))), apply_to = function)
#include "../float/avx2.h"
#include "ymm_bytes.h"

#undef PIO_ISA
#define PIO_ISA avxvnni
enum { ALL_TILE = 5, ALL_VECTORS = 2 };

INLINE vi vi_dot16(vi sum, vi a, vi b) {
  return _mm256_dpwssd_avx_epi32(sum, a, b);
}

#include "../float/attention_all_body.h"
#pragma clang attribute pop
#endif
