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

// Writes `rows` rows of every token.
INLINE void finish(const __m512 *acc, float *y, const struct pio_tile *p, size_t rows,
                   const float *bias, int tokens) {
  const __mmask16 written = (__mmask16)((1u << rows) - 1);
  const __m512 more = bias ? _mm512_maskz_loadu_ps(written, bias) : _mm512_setzero_ps();
  UNROLL for (int t = 0; t < tokens; t++, y += p->y_stride) {
    __m512 sum = acc[t];
    if (bias) sum = _mm512_add_ps(sum, more);
    if (p->accumulate) sum = _mm512_add_ps(_mm512_maskz_loadu_ps(written, y), sum);
    _mm512_mask_storeu_ps(y, written, sum);
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
    if (p->ahead) pio_look_ahead(block, code_bytes + 32, tokens > 2);
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
  finish(acc, p->y, p, p->rows, p->bias, tokens);
}

// Two row-blocks at a time, for cores that begin two products a cycle: every number of a token that
// is loaded meets two registers of weights, and fourteen chains of sums hide the latency of five.
enum { WIDE_TOKENS = 7 };  // 14 float sums, 14 integer sums, 4 registers of weights and values

struct pair {
  const uint8_t *codes[2];
  const int8_t *values;
  size_t row;
};

// sum[...] += 4 columns of both row-blocks, whose codes are the 64 bytes at `line`.
INLINE void pair_columns(__m512i sum[2][WIDE_TOKENS], const struct pair *p, size_t line, int high,
                         int tokens, uint32_t quant) {
  __m512i w[2];
  UNROLL for (int b = 0; b < 2; b++) {
    w[b] = _mm512_loadu_si512(p->codes[b] + 64 * line);
    if (quant == PIO_INT8) continue;
    w[b] = _mm512_and_si512(high ? _mm512_srli_epi16(w[b], 4) : w[b], _mm512_set1_epi8(15));
  }
  const int8_t *values = p->values + 4 * line + (high ? 16 : 0);
  UNROLL for (int t = 0; t < tokens; t++) {
    int32_t four;
    memcpy(&four, values + (size_t)t * p->row, 4);
    const __m512i x = _mm512_set1_epi32(four);
    UNROLL for (int b = 0; b < 2; b++) sum[b][t] = _mm512_dpbusd_epi32(sum[b][t], w[b], x);
  }
}

INLINE void wide(const struct pio_tile *p, int tokens, uint32_t quant) {
  const size_t code_bytes = p->group * (quant == PIO_INT8 ? 16 : 8);
  const size_t block_bytes = code_bytes + (quant == PIO_INT4_AFFINE ? 64 : 32);
  const uint8_t *block[2] = {p->blocks, p->blocks + p->groups * block_bytes};
  __m512 acc[2][WIDE_TOKENS];
  UNROLL for (int b = 0; b < 2; b++) {
    UNROLL for (int t = 0; t < tokens; t++) {
      const float *from = p->acc + PIO_ROWS * (PIO_MOST_TOKENS * b + t);
      acc[b][t] = p->first ? _mm512_setzero_ps() : _mm512_load_ps(from);
    }
  }
  for (size_t g = 0; g < p->count; g++) {
    __m512i sum[2][WIDE_TOKENS];
    UNROLL for (int t = 0; t < tokens; t++) {
      sum[0][t] = quant == PIO_INT4_AFFINE
                      ? _mm512_setzero_si512()
                      : _mm512_set1_epi32(p->starts[g * (size_t)tokens + (size_t)t]);
      sum[1][t] = sum[0][t];
    }
    UNROLL for (int b = 0; b < 2; b++) {
      if (p->ahead) pio_look_ahead(block[b], block_bytes, 1);
    }
    struct pair pair = {{block[0], block[1]}, p->values + g * p->group, p->groups * p->group};
    for (size_t sub = 0; sub < p->group / PIO_SUB; sub++, pair.values += PIO_SUB) {
      const size_t lines = quant == PIO_INT8 ? 8 : 4;
      UNROLL for (size_t line = 0; line < lines; line++) {
        pair_columns(sum, &pair, line, 0, tokens, quant);
        if (quant != PIO_INT8) pair_columns(sum, &pair, line, 1, tokens, quant);
      }
      UNROLL for (int b = 0; b < 2; b++) pair.codes[b] += 64 * lines;
    }
    UNROLL for (int b = 0; b < 2; b++) {
      const __m256i *planes = (const __m256i *)(block[b] + code_bytes);
      const __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256(planes));
      UNROLL for (int t = 0; t < tokens; t++) {
        const size_t at = g * (size_t)tokens + (size_t)t;
        const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(p->scales[at]));
        acc[b][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[b][t]), both, acc[b][t]);
        if (quant == PIO_INT4_AFFINE) {
          const __m512 minimum = _mm512_cvtph_ps(_mm256_loadu_si256(planes + 1));
          acc[b][t] = _mm512_fmadd_ps(minimum, _mm512_set1_ps(p->shifts[at]), acc[b][t]);
        }
      }
      block[b] += block_bytes;
    }
  }
  UNROLL for (int b = 0; b < 2; b++) {
    float *sums = p->acc + PIO_ROWS * PIO_MOST_TOKENS * b;
    const size_t rows = p->rows > PIO_ROWS * (size_t)b ? p->rows - PIO_ROWS * (size_t)b : 0;
    if (p->last) {
      finish(acc[b], p->y + PIO_ROWS * b, p, rows < PIO_ROWS ? rows : PIO_ROWS,
             p->bias ? p->bias + PIO_ROWS * b : NULL, tokens);
    } else {
      UNROLL for (int t = 0; t < tokens; t++) _mm512_store_ps(sums + PIO_ROWS * t, acc[b][t]);
    }
  }
}

PIO_TILE_TABLE(tile, 8)
PIO_TILE_TABLE(wide, 7)

void pio_gemm_avx512vnni(float *y, size_t y_stride, const struct pio_matrix *w,
                         struct pio_activations x, size_t tokens, size_t block_begin,
                         size_t block_end, const float *bias, int accumulate) {
  PIO_RUN_GEMM(tile_table[w->quant - PIO_INT8], TOKENS, 0);
}

// Eight tokens are one tile of one row-block, so that the weights are read once.
void pio_gemm_avx512vnni_wide(float *y, size_t y_stride, const struct pio_matrix *w,
                              struct pio_activations x, size_t tokens, size_t block_begin,
                              size_t block_end, const float *bias, int accumulate) {
  if (tokens == TOKENS) {
    PIO_RUN_GEMM(tile_table[w->quant - PIO_INT8], TOKENS, 0);
  } else {
    PIO_RUN_WIDE_GEMM(tile_table[w->quant - PIO_INT8], wide_table[w->quant - PIO_INT8],
                      WIDE_TOKENS);
  }
}

#pragma clang attribute pop
#endif
