// The float operations with NEON, which every aarch64 has.
#include "../float/names.h"

#if defined(__aarch64__)
#include "../float/neon.h"
#include "../float/operations.h"

// No core of these multiplies 16-bit numbers faster than floats.
void pio_attention_all_neon(float *out, size_t out_stride, const float *q, size_t q_stride,
                            const struct pio_kv *kv, size_t rows, size_t count, float scale,
                            float *scratch) {
  pio_attention_neon(out, out_stride, q, q_stride, kv, rows, 1, count, 0, scale, scratch);
}
#endif
