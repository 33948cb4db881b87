// Attention in tiles of KEYS keys, for any vector of this folder. Needs rows_body.h,
// product_body.h.
//
// Many query rows: each lane of the vectors is one query row. Q is transposed once (head_dim,
// LANES); a tile of scores is K Q^T (keys, LANES), the output is kept transposed (head_dim, LANES)
// and grows by V^T P. So maxima, sums and masks are vertical and K and V are read as they lie.
// Few query rows (decoding): vectors run along head_dim.
#ifndef PIO_ATTENTION_BODY_H
#define PIO_ATTENTION_BODY_H

#include "product_body.h"
#include "rows_body.h"
#include "select_body.h"

enum {
  KEYS = 32,
  NARROW = 8
};  // keys in a tile; query rows up to which vectors run along head_dim

// One attention call, and its scratch.
struct attention {
  const struct pio_kv *kv;
  const float *q;
  float *out;
  size_t q_stride, out_stride, heads, first_visible, step;
  float scale;
  float *keys, *values;   // (KEYS, head_dim): a tile as f32, unused for f32
  float *queries, *sums;  // wide: (head_dim, LANES); narrow: sums (NARROW, head_dim)
  float *scores;          // wide: (KEYS, LANES); narrow: (KEYS)
};

INLINE size_t visible_keys(const struct attention *a, size_t pair) {
  return a->first_visible + pair / a->heads * a->step;
}

INLINE size_t offset(const struct attention *a, size_t pair, size_t stride) {
  return pair / a->heads * stride + pair % a->heads * a->kv->head_dim;
}

// Keys or values `begin`... as f32: where they lie, or widened into `tile`.
static const float *widen(float *tile, const void *data, const float *scales,
                          const struct pio_kv *kv, size_t begin, size_t count) {
  size_t dim = kv->head_dim;
  if (kv->kind == PIO_F32) return (const float *)data + begin * dim;
  if (kv->kind == PIO_F16) {
    NAME(f16_to_f32)(tile, (const uint16_t *)data + begin * dim, count * dim);
    return tile;
  }
  for (size_t j = 0; j < count; j++) {
    const int8_t *row = (const int8_t *)data + (begin + j) * dim;
    vf scale = v_set(scales[begin + j]);
    size_t i = 0;
    for (; i + WIDTH <= dim; i += WIDTH) {
      v_store(tile + j * dim + i, v_mul(scale, v_load_i8(row + i)));
    }
    for (; i < dim; i++) tile[j * dim + i] = scales[begin + j] * (float)row[i];
  }
  return tile;
}

// scores -> exp(scores - maximum) for `count` keys; keys from `visible` (as floats) on become 0.
// `maxima`, `totals` (LANES) are updated; `shrink` is what the sums so far must be multiplied by.
INLINE void softmax_tile(float *scores, size_t count, float begin, int masked, const float *visible,
                         float *maxima, float *totals, float *shrink) {
  UNROLL for (size_t v = 0; v < LANES; v += WIDTH) {
    vf old = v_load(maxima + v), most = old, seen = v_load(visible + v);
    for (size_t j = 0; j < count; j++) {
      vf s = v_load(scores + j * LANES + v);
      if (masked) s = v_if_less(v_set(begin + (float)j), seen, s, v_set(-INFINITY));
      v_store(scores + j * LANES + v, s);
      most = v_max(most, s);
    }
    vf less = v_exp(v_sub(old, most)), total = v_mul(v_load(totals + v), less);
    for (size_t j = 0; j < count; j++) {
      vf p = v_exp(v_sub(v_load(scores + j * LANES + v), most));
      v_store(scores + j * LANES + v, p);
      total = v_add(total, p);
    }
    v_store(maxima + v, most);
    v_store(totals + v, total);
    v_store(shrink + v, less);
  }
}

// Query rows `first`... up to LANES of them, one in each lane; idle lanes have q = 0.
static void attend_wide(const struct attention *a, size_t first, size_t count) {
  size_t dim = a->kv->head_dim, least = SIZE_MAX, most = 0;
  float visible[LANES], maxima[LANES], totals[LANES], shrink[LANES];
  memset(a->queries, 0, dim * LANES * sizeof(float));
  memset(a->sums, 0, dim * LANES * sizeof(float));
  for (size_t lane = 0; lane < LANES; lane++) {
    maxima[lane] = -INFINITY;
    totals[lane] = 0;
    visible[lane] = 1;
    if (lane >= count) continue;
    size_t seen = visible_keys(a, first + lane);
    visible[lane] = (float)seen;
    least = seen < least ? seen : least;
    most = seen > most ? seen : most;
    const float *q = a->q + offset(a, first + lane, a->q_stride);
    for (size_t i = 0; i < dim; i++) a->queries[i * LANES + lane] = q[i] * a->scale;
  }
  for (size_t begin = 0; begin < most; begin += KEYS) {
    size_t n = most - begin < KEYS ? most - begin : KEYS;
    const float *keys = widen(a->keys, a->kv->keys, a->kv->key_scales, a->kv, begin, n);
    product(a->scores, NULL, keys, dim, 1, a->queries, dim, n);
    softmax_tile(a->scores, n, (float)begin, begin + n > least, visible, maxima, totals, shrink);
    const float *values = widen(a->values, a->kv->values, a->kv->value_scales, a->kv, begin, n);
    product(a->sums, shrink, values, 1, dim, a->scores, n, dim);
  }
  for (size_t lane = 0; lane < count; lane++) {
    float *out = a->out + offset(a, first + lane, a->out_stride);
    for (size_t i = 0; i < dim; i++) out[i] = a->sums[i * LANES + lane] / totals[lane];
  }
}

// sums = shrink * sums + scores V, `count` vectors of head_dim at a time.
INLINE void add_values(float *sums, float shrink, const float *scores, const float *values,
                       size_t dim, size_t keys, int count) {
  vf acc[4];
  UNROLL for (int c = 0; c < count; c++) {
    acc[c] = v_mul(v_set(shrink), v_load(sums + (size_t)c * WIDTH));
  }
  for (size_t j = 0; j < keys; j++) {
    vf p = v_set(scores[j]);
    UNROLL for (int c = 0; c < count; c++) {
      acc[c] = v_fma(p, v_load(values + j * dim + (size_t)c * WIDTH), acc[c]);
    }
  }
  UNROLL for (int c = 0; c < count; c++) v_store(sums + (size_t)c * WIDTH, acc[c]);
}

// One query row against one tile; `state`: its maximum and total so far.
static void attend_tile(const struct attention *a, float *sums, const float *q, const float *keys,
                        const float *values, size_t n, float *state) {
  size_t dim = a->kv->head_dim, i = 0;
  float *scores = a->scores, most = state[0], total = 0;
  all_dots(scores, keys, dim, q, dim, n);
  for (size_t j = 0; j < n; j++) {
    scores[j] *= a->scale;
    most = scores[j] > most || scores[j] != scores[j] ? scores[j] : most;
  }
  float shrink = pio_exp(state[0] - most);
  for (size_t j = 0; j < n; j += WIDTH) {
    v_store(scores + j, v_exp(v_sub(v_load(scores + j), v_set(most))));
  }
  for (size_t j = 0; j < n; j++) total += scores[j];
  for (; i + 4 * WIDTH <= dim; i += 4 * WIDTH) {
    add_values(sums + i, shrink, scores, values + i, dim, n, 4);
  }
  for (; i + WIDTH <= dim; i += WIDTH) {
    add_values(sums + i, shrink, scores, values + i, dim, n, 1);
  }
  for (; i < dim; i++) {
    float acc = shrink * sums[i];
    for (size_t j = 0; j < n; j++) acc = fmaf(scores[j], values[j * dim + i], acc);
    sums[i] = acc;
  }
  state[0] = most;
  state[1] = state[1] * shrink + total;
}

// All `count` <= NARROW query rows over the keys from `from` on, tile by tile, so that a tile is
// widened once: a->sums and `state`, each row's maximum and total.
static void sum_narrow(const struct attention *a, size_t count, size_t from,
                       float state[NARROW][2]) {
  size_t dim = a->kv->head_dim, most = visible_keys(a, count - 1);
  memset(a->sums, 0, count * dim * sizeof(float));
  memset(a->scores, 0, KEYS * sizeof(float));
  for (size_t pair = 0; pair < count; pair++) state[pair][0] = -INFINITY, state[pair][1] = 0;
  for (size_t begin = from; begin < most; begin += KEYS) {
    size_t n = most - begin < KEYS ? most - begin : KEYS;
    const float *keys = widen(a->keys, a->kv->keys, a->kv->key_scales, a->kv, begin, n);
    const float *values = widen(a->values, a->kv->values, a->kv->value_scales, a->kv, begin, n);
    for (size_t pair = 0; pair < count; pair++) {
      size_t seen = visible_keys(a, pair);
      if (seen <= begin) continue;
      size_t mine = seen - begin < n ? seen - begin : n;
      attend_tile(a, a->sums + pair * dim, a->q + offset(a, pair, a->q_stride), keys, values, mine,
                  state[pair]);
    }
  }
}

static void attend_narrow(const struct attention *a, size_t count) {
  size_t dim = a->kv->head_dim;
  float state[NARROW][2];
  sum_narrow(a, count, 0, state);
  for (size_t pair = 0; pair < count; pair++) {
    float *out = a->out + offset(a, pair, a->out_stride);
    for (size_t i = 0; i < dim; i++) out[i] = a->sums[pair * dim + i] / state[pair][1];
  }
}

void NAME(attention_part)(float *part, const float *q, const struct pio_kv *kv, size_t heads,
                          size_t begin, size_t end, float scale, float *scratch) {
  size_t dim = kv->head_dim;
  for (size_t h = 0; h < heads; h += NARROW) {
    size_t count = heads - h < NARROW ? heads - h : NARROW;
    struct attention a = {
        .kv = kv,
        .q = q + h * dim,
        .heads = count,
        .first_visible = end,
        .scale = scale,
        .keys = scratch,
        .values = scratch + KEYS * dim,
        .sums = scratch + 2 * KEYS * dim,
        .scores = scratch + (2 * KEYS + NARROW) * dim,
    };
    float state[NARROW][2];
    sum_narrow(&a, count, begin, state);
    for (size_t i = 0; i < count; i++) {
      float *mine = part + (h + i) * (dim + 2);
      memcpy(mine, a.sums + i * dim, dim * sizeof(float));
      memcpy(mine + dim, state[i], sizeof state[i]);
    }
  }
}

void NAME(attention)(float *out, size_t out_stride, const float *q, size_t q_stride,
                     const struct pio_kv *kv, size_t rows, size_t heads, size_t first_visible,
                     size_t step, float scale, float *scratch) {
  size_t dim = kv->head_dim, pairs = rows * heads;
  struct attention a = {kv,
                        q,
                        out,
                        q_stride,
                        out_stride,
                        heads,
                        first_visible,
                        step,
                        scale,
                        scratch,
                        scratch + KEYS * dim,
                        scratch + 2 * KEYS * dim,
                        scratch + (2 * KEYS + LANES) * dim,
                        scratch + (2 * KEYS + 2 * LANES) * dim};
  if (pairs <= NARROW) {
    if (pairs > 0) attend_narrow(&a, pairs);
    return;
  }
  for (size_t first = 0; first < pairs; first += LANES) {
    attend_wide(&a, first, pairs - first < LANES ? pairs - first : LANES);
  }
}

// A tile of keys is widened once for all heads.
void NAME(attention_probabilities)(float *out, size_t out_stride, const float *q,
                                   const struct pio_kv *kv, size_t heads, size_t visible,
                                   float scale, float *scratch) {
  size_t dim = kv->head_dim;
  for (size_t begin = 0; begin < visible; begin += KEYS) {
    size_t n = visible - begin < KEYS ? visible - begin : KEYS;
    const float *keys = widen(scratch, kv->keys, kv->key_scales, kv, begin, n);
    for (size_t h = 0; h < heads; h++) {
      all_dots(out + h * out_stride + begin, keys, dim, q + h * dim, dim, n);
    }
  }
  for (size_t h = 0; h < heads; h++) {
    float *scores = out + h * out_stride, most = -INFINITY, total = 0;
    for (size_t j = 0; j < visible; j++) {
      scores[j] *= scale;
      if (scores[j] > most || scores[j] != scores[j]) most = scores[j];
    }
    NAME(exp_run)(scores, visible, most, 1);
    for (size_t j = 0; j < visible; j++) total += scores[j];
    for (size_t j = 0; j < visible; j++) scores[j] /= total;
  }
}

#endif
