// The transposed product in 8 bits with sdot.
#include "../float/names.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#pragma clang attribute push(__attribute__((target("arch=armv8.2-a+dotprod"))), apply_to = function)
#include "../float/neon.h"
#include "bytes.h"

#undef PIO_ISA
#define PIO_ISA dotprod

INLINE vi vi_dot(vi sum, vi codes, vi values) {
  return vdotq_s32(sum, vreinterpretq_s8_s32(codes), vreinterpretq_s8_s32(values));
}

#include "../float/transposed_int8_body.h"
#pragma clang attribute pop
#endif
