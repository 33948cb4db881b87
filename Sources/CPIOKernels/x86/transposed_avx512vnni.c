// The transposed product in 8 bits with vpdpbusd.
#include "../float/names.h"

#if defined(__x86_64__)
#pragma clang attribute push(                                                               \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c"))), \
    apply_to = function)
#include "../float/avx512.h"
#include "zmm_bytes.h"

#undef PIO_ISA
#define PIO_ISA avx512vnni
enum { SIGNED_CODES = 0 };

INLINE vi vi_dot(vi sum, vi codes, vi values) {
  return _mm512_dpbusd_epi32(sum, codes, values);
}

#include "../float/transposed_int8_body.h"
#pragma clang attribute pop
#endif
