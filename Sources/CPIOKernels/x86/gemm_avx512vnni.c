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

// The 8 registers of a sub-block: columns 4 j ... 4 j + 3 in register j.
INLINE void load_codes(__m512i w[8], const uint8_t *codes, uint32_t quant) {
  const __m512i low = _mm512_set1_epi8(15);
  UNROLL for (int j = 0; j < 4; j++) {
    __m512i v = _mm512_loadu_si512(codes + 64 * j);
    if (quant == PIO_INT8) {
      w[j] = v;
      w[4 + j] = _mm512_loadu_si512(codes + 64 * (4 + j));
    } else {
      w[j] = _mm512_and_si512(v, low);
      w[4 + j] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
    }
  }
}

// The start of a group's sum, - zero * sum of the values: the codes are unsigned.
INLINE __m512i start(const int32_t *sum, uint32_t quant) {
  if (quant == PIO_INT4_AFFINE) return _mm512_setzero_si512();
  __m512i shifted = _mm512_slli_epi32(_mm512_set1_epi32(*sum), quant == PIO_INT8 ? 7 : 3);
  return _mm512_sub_epi32(_mm512_setzero_si512(), shifted);
}

INLINE __m512i dot4(__m512i sum, __m512i codes, const int8_t *values) {
  int32_t four;
  memcpy(&four, values, 4);
  return _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(four));
}

// The sums of one group; with few tokens two chains for each, so that latency does not show.
INLINE void group_sums(__m512i *sum, const struct pio_tile *p, const uint8_t *block, size_t g,
                       int tokens, uint32_t quant) {
  const size_t row = p->groups * p->group, sub_bytes = quant == PIO_INT8 ? 512 : 256;
  const int8_t *values = p->values + g * p->group;
  __m512i second[TOKENS];
  UNROLL for (int t = 0; t < tokens; t++) {
    sum[t] = start(p->sums + (size_t)t * p->groups + g, quant);
    second[t] = _mm512_setzero_si512();
  }
  for (size_t sub = 0; sub < p->group / PIO_SUB; sub++) {
    __m512i w[8];
    load_codes(w, block + sub * sub_bytes, quant);
    UNROLL for (int t = 0; t < tokens; t++) {
      const int8_t *v = values + (size_t)t * row + sub * PIO_SUB;
      UNROLL for (int j = 0; j < 8; j++) {
        if (tokens <= 2 && j >= 4) {
          second[t] = dot4(second[t], w[j], v + 4 * j);
        } else {
          sum[t] = dot4(sum[t], w[j], v + 4 * j);
        }
      }
    }
  }
  if (tokens <= 2) {
    UNROLL for (int t = 0; t < tokens; t++) sum[t] = _mm512_add_epi32(sum[t], second[t]);
  }
}

INLINE void tile(const struct pio_tile *p, int tokens, uint32_t quant) {
  const size_t code_bytes = p->group * (quant == PIO_INT8 ? 16 : 8);
  const uint8_t *block = p->blocks;
  __m512 acc[TOKENS];
  UNROLL for (int t = 0; t < tokens; t++) acc[t] = _mm512_setzero_ps();
  for (size_t g = 0; g < p->groups; g++) {
    __m512i sum[TOKENS];
    group_sums(sum, p, block, g, tokens, quant);
    const __m256i *planes = (const __m256i *)(block + code_bytes);
    __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256(planes));
    UNROLL for (int t = 0; t < tokens; t++) {
      const size_t at = (size_t)t * p->groups + g;
      __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(p->scales[at]));
      acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[t]), both, acc[t]);
      if (quant == PIO_INT4_AFFINE) {
        __m512 minimum = _mm512_cvtph_ps(_mm256_loadu_si256(planes + 1));
        acc[t] =
            _mm512_fmadd_ps(minimum, _mm512_set1_ps(p->scales[at] * (float)p->sums[at]), acc[t]);
      }
    }
    block += code_bytes + (quant == PIO_INT4_AFFINE ? 64 : 32);
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
#define TILE(p, count) tiles[w->quant - PIO_INT8][(count)-1](p)
  PIO_FOR_TILES(TILE, TOKENS);
#undef TILE
}

#pragma clang attribute pop
#endif
