// The integer product with 32-byte registers, two of which are 16 rows x 4 columns. Needs, defined
// before:
//   void sub_block_int4, sub_block_int8(__m256i sum[TOKENS][2], const uint8_t *codes, const int8_t
//     *values, size_t row, int tokens): 32 columns, sum[t][h] += codes * values, rows 8 h ... 8 h +
//     7
//   and SIGNED_CODES, whether codes of 8 bits are then less 128.
#ifndef PIO_GEMM_YMM_H
#define PIO_GEMM_YMM_H

// acc[t][h] += one group.
INLINE void add_group(__m256 acc[TOKENS][2], const struct pio_tile *p, const uint8_t *block,
                      size_t g, int tokens, uint32_t quant) {
  const size_t row = p->groups * p->group, code_bytes = p->group * (quant == PIO_INT8 ? 16 : 8);
  const int8_t *values = p->values + g * p->group;
  __m256i sum[TOKENS][2];
  UNROLL for (int t = 0; t < tokens; t++) {
    const int started = quant == PIO_INT4 || (quant == PIO_INT8 && !SIGNED_CODES);
    int32_t start = started ? p->starts[g * (size_t)tokens + (size_t)t] : 0;
    sum[t][0] = sum[t][1] = _mm256_set1_epi32(start);
  }
  for (size_t sub = 0; sub < p->group / PIO_SUB; sub++) {
    if (quant == PIO_INT8) {
      sub_block_int8(sum, block + sub * 512, values + sub * PIO_SUB, row, tokens);
    } else {
      sub_block_int4(sum, block + sub * 256, values + sub * PIO_SUB, row, tokens);
    }
  }
  const __m128i *planes = (const __m128i *)(block + code_bytes);
  UNROLL for (int h = 0; h < 2; h++) {
    __m256 scale = _mm256_cvtph_ps(_mm_loadu_si128(planes + h));
    UNROLL for (int t = 0; t < tokens; t++) {
      const size_t at = g * (size_t)tokens + (size_t)t;
      __m256 both = _mm256_mul_ps(scale, _mm256_set1_ps(p->scales[at]));
      acc[t][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[t][h]), both, acc[t][h]);
      if (quant == PIO_INT4_AFFINE) {
        __m256 minimum = _mm256_cvtph_ps(_mm_loadu_si128(planes + 2 + h));
        acc[t][h] = _mm256_fmadd_ps(
            minimum, _mm256_set1_ps(p->shifts[g * (size_t)tokens + (size_t)t]), acc[t][h]);
      }
    }
  }
}

INLINE void tile(const struct pio_tile *p, int tokens, uint32_t quant) {
  const size_t block_bytes =
      p->group * (quant == PIO_INT8 ? 16 : 8) + (quant == PIO_INT4_AFFINE ? 64 : 32);
  __m256 acc[TOKENS][2];
  UNROLL for (int t = 0; t < tokens; t++) {
    UNROLL for (int h = 0; h < 2; h++) {
      acc[t][h] = p->first ? _mm256_setzero_ps() : _mm256_load_ps(p->acc + PIO_ROWS * t + 8 * h);
    }
  }
  for (size_t g = 0; g < p->count; g++) {
    if (p->ahead) pio_look_ahead(p->blocks + g * block_bytes, block_bytes, tokens > 2);
    add_group(acc, p, p->blocks + g * block_bytes, g, tokens, quant);
  }
  UNROLL for (int t = 0; t < tokens; t++) {
    _mm256_store_ps(p->acc + PIO_ROWS * t, acc[t][0]);
    _mm256_store_ps(p->acc + PIO_ROWS * t + 8, acc[t][1]);
    if (p->last) pio_finish_tile(p, (size_t)t);
  }
}

PIO_TILE_TABLE(tile, 4)

#endif
