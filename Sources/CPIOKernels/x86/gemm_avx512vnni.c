// The integer product with vpdpbusd: one 64-byte register is 16 rows x 4 columns.
#include "../panel.h"
#include "../tables.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(                                                               \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c"))), \
    apply_to = function)

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

enum { TOKENS = 8 };  // 8 float sums, 8 integer sums, 8 registers of weights: no spills

INLINE __m512i dot4(__m512i sum, __m512i codes, const int8_t *values) {
  int32_t four;
  memcpy(&four, values, 4);
  return _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(four));
}

// sum[t] += 4 columns of every token.
INLINE void dot4s(__m512i *sum, __m512i codes, const int8_t *values, size_t row, int tokens) {
  UNROLL for (int t = 0; t < tokens; t++) sum[t] = dot4(sum[t], codes, values + (size_t)t * row);
}

// The sums of one group. Columns outermost: neighbouring instructions are independent. With few
// tokens the second half of the columns has sums of its own, so that latency does not show.
INLINE void group_sums(__m512i *sum, const struct pio_tile *p, const uint8_t *block, size_t g,
                       int tokens, uint32_t quant) {
  const size_t row = p->groups * p->group;
  const __m512i low = _mm512_set1_epi8(15);
  const int8_t *values = p->values + g * p->group;
  __m512i second[TOKENS], *other = tokens <= 2 ? second : sum;
  UNROLL for (int t = 0; t < tokens; t++) {
    sum[t] = quant == PIO_INT4_AFFINE
                 ? _mm512_setzero_si512()
                 : _mm512_set1_epi32(p->starts[g * (size_t)tokens + (size_t)t]);
    second[t] = _mm512_setzero_si512();
  }
  for (size_t sub = 0; sub < p->group / PIO_SUB; sub++, values += PIO_SUB) {
    UNROLL for (int j = 0; j < 4; j++, block += 64) {
      __m512i v = _mm512_loadu_si512(block);
      if (quant == PIO_INT8) {
        dot4s(sum, v, values + 4 * j, row, tokens);
        dot4s(other, _mm512_loadu_si512(block + 256), values + 16 + 4 * j, row, tokens);
      } else {
        dot4s(sum, _mm512_and_si512(v, low), values + 4 * j, row, tokens);
        dot4s(other, _mm512_and_si512(_mm512_srli_epi16(v, 4), low), values + 16 + 4 * j, row,
              tokens);
      }
    }
    if (quant == PIO_INT8) block += 256;
  }
  if (tokens <= 2) {
    UNROLL for (int t = 0; t < tokens; t++) sum[t] = _mm512_add_epi32(sum[t], second[t]);
  }
}

INLINE void tile(const struct pio_tile *p, int tokens, uint32_t quant) {
  const size_t code_bytes = p->group * (quant == PIO_INT8 ? 16 : 8);
  const uint8_t *block = p->blocks;
  __m512 acc[TOKENS];
  UNROLL for (int t = 0; t < tokens; t++) {
    acc[t] = p->first ? _mm512_setzero_ps() : _mm512_load_ps(p->acc + PIO_ROWS * t);
  }
  for (size_t g = 0; g < p->count; g++) {
    __m512i sum[TOKENS];
    pio_look_ahead(block, code_bytes + 32, tokens);
    group_sums(sum, p, block, g, tokens, quant);
    const __m256i *planes = (const __m256i *)(block + code_bytes);
    __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256(planes));
    UNROLL for (int t = 0; t < tokens; t++) {
      const size_t at = g * (size_t)tokens + (size_t)t;
      __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(p->scales[at]));
      acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[t]), both, acc[t]);
      if (quant == PIO_INT4_AFFINE) {
        __m512 minimum = _mm512_cvtph_ps(_mm256_loadu_si256(planes + 1));
        float shift = p->shifts[g * (size_t)tokens + (size_t)t];
        acc[t] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(shift), acc[t]);
      }
    }
    block += code_bytes + (quant == PIO_INT4_AFFINE ? 64 : 32);
  }
  if (!p->last) {
    UNROLL for (int t = 0; t < tokens; t++) _mm512_store_ps(p->acc + PIO_ROWS * t, acc[t]);
    return;
  }
  __mmask16 written = (__mmask16)((1u << p->rows) - 1);
  __m512 bias = p->bias ? _mm512_maskz_loadu_ps(written, p->bias) : _mm512_setzero_ps();
  UNROLL for (int t = 0; t < tokens; t++) {
    float *y = p->y + (size_t)t * p->y_stride;
    if (p->bias) acc[t] = _mm512_add_ps(acc[t], bias);
    if (p->accumulate) acc[t] = _mm512_add_ps(_mm512_maskz_loadu_ps(written, y), acc[t]);
    _mm512_mask_storeu_ps(y, written, acc[t]);
  }
}

PIO_TILE_TABLE(tile, 8)

void pio_gemm_avx512vnni(float *y, size_t y_stride, const struct pio_matrix *w,
                         struct pio_activations x, size_t tokens, size_t block_begin,
                         size_t block_end, const float *bias, int accumulate) {
  PIO_RUN_GEMM(tiles[w->quant - PIO_INT8], TOKENS, 0);
}

#pragma clang attribute pop
#endif
