// Attention in 16 bits with vpdpwssd.
#include "../float/names.h"

#if defined(__x86_64__)
#pragma clang attribute push(                                                               \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c"))), \
    apply_to = function)
#include "../float/avx512.h"
#include "zmm_bytes.h"

#undef PIO_ISA
#define PIO_ISA avx512vnni
enum { ALL_TILE = 8, ALL_VECTORS = 2 };

INLINE vi vi_dot16(vi sum, vi a, vi b) {
  return _mm512_dpwssd_epi32(sum, a, b);
}

#include "../float/attention_all_body.h"
#pragma clang attribute pop
#endif
