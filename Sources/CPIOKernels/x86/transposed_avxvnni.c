// The transposed product in 8 bits with vpdpbusd in 32-byte registers.
#include "../float/names.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,avxvnni,fma,f16c"))), apply_to = function)
#include "../float/avx2.h"
#include "ymm_bytes.h"

#undef PIO_ISA
#define PIO_ISA avxvnni
enum { SIGNED_CODES = 0 };

INLINE vi vi_dot(vi sum, vi codes, vi values) {
  return _mm256_dpbusd_avx_epi32(sum, codes, values);
}

#include "../float/transposed_int8_body.h"
#pragma clang attribute pop
#endif
