// Attention where every row sees every key, in whole numbers of 16 bits: `attention_all`. Needs
// beside the words of transposed_int8_body.h
//   ALL_TILE x ALL_VECTORS registers of sums; vi vi_or(vi a, vi b), void v_store_i16(int16_t *p, vi
//   whole): the low half of every lane vi vi_dot16(vi sum, vi a, vi b): sum + the products of both
//   halves of every lane.
//
// A float multiply-add does WIDTH products an instruction, one of 16-bit numbers twice as many, and
// 13 bits of a query or key are sixteen times as fine as 8. As in attention_body.h each lane of the
// vectors is one query row, a tile of scores is K Q^T, the output grows by V^T P and is kept
// transposed. A tile of keys and values is made into whole numbers once for BLOCK query rows.
//
// Queries and keys: -4095...4095, one scale a row; the sum of 128 products is below 2^31. Values:
// -1023...1023, one scale a key, and probabilities 0...32767, in which that scale is contained as a
// share of the tile's greatest; the sum of 64 products is below 2^31.
#ifndef PIO_ATTENTION_ALL_BODY_H
#define PIO_ATTENTION_ALL_BODY_H

#include "exp_body.h"

enum { LANES = ALL_VECTORS * WIDTH, KEYS = 64, BLOCK = PIO_ALL_ROWS };

// One call, and its scratch.
struct all {
  const struct pio_kv *kv;
  const float *q;
  float *out;
  size_t q_stride, out_stride, count;
  float scale;
  int32_t *queries;  // (BLOCK / LANES, dim / 2, LANES): pairs of numbers
  float *sums;       // (BLOCK / LANES, dim, LANES)
  int32_t *keys;     // (KEYS, dim / 2): pairs of numbers
  int32_t *values;   // (KEYS / 2, dim): pairs of keys
  int32_t *scores;   // (KEYS, LANES); then probabilities (KEYS / 2, LANES), pairs of keys
  float *query_scales, *maxima, *totals;  // (BLOCK)
};

// The scale that makes `count` numbers fit into -most...most, and 1 / scale: NaN where one is not
// finite, 0 where all are next to nothing.
INLINE pio_step whole_step(const float *x, size_t count, float most) {
  vi greatest = vi_zero();
  size_t i = 0;
  for (; i + WIDTH <= count; i += WIDTH) {
    greatest = vi_max(greatest, vi_and(vi_bits(v_load(x + i)), 0x7fffffff));
  }
  if (i < count) {
    greatest = vi_max(greatest, vi_and(vi_bits(v_load_n(x + i, count - i)), 0x7fffffff));
  }
  const int32_t bits = vi_greatest(greatest);
  const float max = pio_from_bits((uint32_t)bits);
  if (bits >= 0x7f800000) return (pio_step){NAN, 0};
  if (max < 0x1p-100f) return (pio_step){0, 0};
  return (pio_step){max / most, most / max};
}

INLINE vi whole(const float *x, size_t count, vf inverse) {
  return vi_whole(v_mul(count >= WIDTH ? v_load(x) : v_load_n(x, count), inverse));
}

// `count` whole numbers, and up to WIDTH - 1 behind them.
INLINE void store_whole(int16_t *out, const float *x, size_t count, float inverse) {
  const vf factor = v_set(inverse);
  for (size_t i = 0; i < count; i += WIDTH) v_store_i16(out + i, whole(x + i, count - i, factor));
}

// Up to BLOCK query rows from `first` on, one a lane; idle lanes are 0.
static void load_queries(const struct all *a, size_t first, size_t rows) {
  const size_t dim = a->kv->head_dim, blocks = (rows + LANES - 1) / LANES;
  int16_t row[PIO_ALL_DIM + WIDTH] __attribute__((aligned(64)));
  for (size_t r = 0; r < blocks * LANES; r++) {
    int32_t *to = a->queries + r / LANES * LANES * (dim / 2) + r % LANES;
    a->maxima[r] = -INFINITY;
    a->totals[r] = a->query_scales[r] = 0;
    if (r < rows) {
      const float *q = a->q + (first + r) * a->q_stride;
      const pio_step step = whole_step(q, dim, 4095);
      a->query_scales[r] = step.scale * a->scale;
      store_whole(row, q, dim, step.inverse);
    } else {
      memset(row, 0, sizeof row);
    }
    for (size_t i = 0; i < dim / 2; i++) memcpy(to + i * LANES, row + 2 * i, 4);
  }
  memset(a->sums, 0, blocks * LANES * dim * sizeof(float));
}

// Keys and values `begin`...: whole numbers, and each one's scale; behind the last of an odd number
// of keys one of 0. Returns what the sums of products with the values are to be multiplied by.
static float load_keys(const struct all *a, size_t begin, size_t count, float *key_scales,
                       float *shares) {
  const size_t dim = a->kv->head_dim;
  const float *keys = (const float *)a->kv->keys + begin * dim;
  const float *values = (const float *)a->kv->values + begin * dim;
  float inverses[KEYS], greatest = 0, poison = 0;
  for (size_t j = 0; j < count; j++) {
    const pio_step key = whole_step(keys + j * dim, dim, 4095);
    const pio_step value = whole_step(values + j * dim, dim, 1023);
    store_whole((int16_t *)(a->keys + j * (dim / 2)), keys + j * dim, dim, key.inverse);
    key_scales[j] = key.scale;
    shares[j] = value.scale;
    inverses[j] = value.inverse;
    greatest = value.scale > greatest ? value.scale : greatest;
    poison += value.scale - value.scale;
  }
  for (size_t j = 0; j < count; j += 2) {
    const int both = j + 1 < count;
    const vf low = v_set(inverses[j]), high = v_set(both ? inverses[j + 1] : 0);
    const float *x = values + j * dim, *y = both ? x + dim : x;
    for (size_t i = 0; i < dim; i += WIDTH) {
      const vi a_row = vi_and(whole(x + i, dim - i, low), 0xffff);
      vi_store(a->values + j / 2 * dim + i, vi_or(a_row, vi_left(whole(y + i, dim - i, high), 16)));
    }
  }
  for (size_t j = 0; j < count; j++) shares[j] = greatest > 0 ? shares[j] / greatest * 32767 : 0;
  return greatest / 32767 + poison;
}

// acc[m] = sum over steps of a[m * a_row + s * a_step] . b[s * LANES ...], in pairs.
INLINE void multiply_pairs(vi acc[ALL_TILE][ALL_VECTORS], const int32_t *a, size_t a_row,
                           size_t a_step, const int32_t *b, size_t steps, int count) {
  UNROLL for (int m = 0; m < count; m++) {
    UNROLL for (int v = 0; v < ALL_VECTORS; v++) acc[m][v] = vi_zero();
  }
  for (size_t s = 0; s < steps; s++) {
    vi row[ALL_VECTORS];
    UNROLL for (int v = 0; v < ALL_VECTORS; v++) row[v] = vi_words(b + s * LANES + v * WIDTH);
    UNROLL for (int m = 0; m < count; m++) {
      const vi x = vi_set(a[(size_t)m * a_row + s * a_step]);
      UNROLL for (int v = 0; v < ALL_VECTORS; v++) acc[m][v] = vi_dot16(acc[m][v], x, row[v]);
    }
  }
}

INLINE void score_tile(int32_t *scores, const int32_t *keys, size_t words, const int32_t *queries,
                       int count) {
  vi acc[ALL_TILE][ALL_VECTORS];
  multiply_pairs(acc, keys, words, 1, queries, words, count);
  UNROLL for (int m = 0; m < count; m++) {
    UNROLL for (int v = 0; v < ALL_VECTORS; v++)
        vi_store(scores + m * LANES + v * WIDTH, acc[m][v]);
  }
}

INLINE void value_tile(float *sums, const float *shrink, float scale, const int32_t *values,
                       size_t dim, const int32_t *probabilities, size_t pairs, int count) {
  vi acc[ALL_TILE][ALL_VECTORS];
  multiply_pairs(acc, values, 1, dim, probabilities, pairs, count);
  UNROLL for (int m = 0; m < count; m++) {
    UNROLL for (int v = 0; v < ALL_VECTORS; v++) {
      float *at = sums + m * LANES + v * WIDTH;
      const vf old = v_mul(v_load(at), v_load(shrink + v * WIDTH));
      v_store(at, v_fma(v_whole(acc[m][v]), v_set(scale), old));
    }
  }
}

// Sums of products to probabilities. `shrink` is what sums so far must be multiplied by.
INLINE void probabilities_tile(const struct all *a, size_t lane, size_t count,
                               const float *key_scales, const float *shares, float *shrink) {
  UNROLL for (size_t v = 0; v < LANES; v += WIDTH) {
    const vf scale = v_load(a->query_scales + lane + v), old = v_load(a->maxima + lane + v);
    vf most = old;
    for (size_t j = 0; j < count; j++) {
      int32_t *at = a->scores + j * LANES + v;
      const vf s = v_mul(v_whole(vi_words(at)), v_mul(scale, v_set(key_scales[j])));
      vi_store(at, vi_bits(s));
      most = v_max(most, s);
    }
    const vf less = v_exp_below(v_sub(old, most));
    vf total = v_mul(v_load(a->totals + lane + v), less);
    for (size_t j = 0; j < count; j += 2) {
      const vf first = v_exp_below(v_sub(v_words(a->scores + j * LANES + v), most));
      total = v_add(total, first);
      vi words = vi_whole(v_mul(first, v_set(shares[j])));
      if (j + 1 < count) {
        const vf second = v_exp_below(v_sub(v_words(a->scores + (j + 1) * LANES + v), most));
        total = v_add(total, second);
        words = vi_or(words, vi_left(vi_whole(v_mul(second, v_set(shares[j + 1]))), 16));
      }
      vi_store(a->scores + j / 2 * LANES + v, words);
    }
    v_store(a->maxima + lane + v, most);
    v_store(a->totals + lane + v, total);
    v_store(shrink + v, less);
  }
}

// LANES query rows against a tile of keys.
static void attend_lanes(const struct all *a, size_t block, size_t count, const float *key_scales,
                         const float *shares, float scale) {
  const size_t dim = a->kv->head_dim, words = dim / 2, pairs = (count + 1) / 2;
  const int32_t *queries = a->queries + block * LANES * words;
  float *sums = a->sums + block * LANES * dim, shrink[LANES];
  size_t j = 0, i = 0;
  for (; j + ALL_TILE <= count; j += ALL_TILE) {
    score_tile(a->scores + j * LANES, a->keys + j * words, words, queries, ALL_TILE);
  }
  for (; j < count; j++) {
    score_tile(a->scores + j * LANES, a->keys + j * words, words, queries, 1);
  }
  probabilities_tile(a, block * LANES, count, key_scales, shares, shrink);
  for (; i + ALL_TILE <= dim; i += ALL_TILE) {
    value_tile(sums + i * LANES, shrink, scale, a->values + i, dim, a->scores, pairs, ALL_TILE);
  }
  for (; i < dim; i++) {
    value_tile(sums + i * LANES, shrink, scale, a->values + i, dim, a->scores, pairs, 1);
  }
}

static void attend_block(const struct all *a, size_t first, size_t rows) {
  const size_t dim = a->kv->head_dim;
  load_queries(a, first, rows);
  for (size_t begin = 0; begin < a->count; begin += KEYS) {
    const size_t count = a->count - begin < KEYS ? a->count - begin : KEYS;
    float key_scales[KEYS], shares[KEYS];
    const float scale = load_keys(a, begin, count, key_scales, shares);
    for (size_t b = 0; b * LANES < rows; b++) {
      attend_lanes(a, b, count, key_scales, shares, scale);
    }
  }
  for (size_t b = 0; b < rows; b += LANES) {
    float *sums = a->sums + b * dim;
    for (size_t i = 0; i < dim * LANES; i += WIDTH) {
      v_store(sums + i, v_div(v_load(sums + i), v_load(a->totals + b + i % LANES)));
    }
    for (size_t r = 0; r < LANES && b + r < rows; r++) {
      float *out = a->out + (first + b + r) * a->out_stride;
      for (size_t i = 0; i < dim; i++) out[i] = sums[i * LANES + r];
    }
  }
}

void NAME(attention_all)(float *out, size_t out_stride, const float *q, size_t q_stride,
                         const struct pio_kv *kv, size_t rows, size_t count, float scale,
                         float *scratch) {
  const size_t dim = kv->head_dim;
  struct all a = {.kv = kv,
                  .q = q,
                  .out = out,
                  .q_stride = q_stride,
                  .out_stride = out_stride,
                  .count = count,
                  .scale = scale};
  a.sums = scratch;
  a.query_scales = a.sums + BLOCK * dim;
  a.maxima = a.query_scales + BLOCK;
  a.totals = a.maxima + BLOCK;
  a.queries = (int32_t *)(a.totals + BLOCK);
  a.scores = a.queries + BLOCK * (dim / 2);
  a.keys = a.scores + KEYS * LANES;
  a.values = a.keys + KEYS * (dim / 2) + WIDTH;
  for (size_t first = 0; first < rows; first += BLOCK) {
    attend_block(&a, first, rows - first < BLOCK ? rows - first : BLOCK);
  }
}

#endif
