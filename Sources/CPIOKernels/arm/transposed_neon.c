// The transposed product in 8 bits with plain NEON: a sum of two products is at most 2 * 128 * 127
// and fits into 16 bits.
#include "../float/names.h"

#if defined(__aarch64__)
#include "../float/neon.h"
#include "bytes.h"

INLINE vi vi_dot(vi sum, vi codes, vi values) {
  int8x16_t a = vreinterpretq_s8_s32(codes), b = vreinterpretq_s8_s32(values);
  int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
  return vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(a, b)));
}

#include "../float/transposed_int8_body.h"
#endif
