// Attention, the oracle: one query row, one key at a time.
#include "../internal.h"
#include "../tables.h"

static float element(const void *data, const float *scales, const struct pio_kv *kv,
                     size_t position, size_t i) {
  size_t at = position * kv->head_dim + i;
  if (kv->kind == PIO_KV_INT8) return scales[position] * (float)((const int8_t *)data)[at];
  if (kv->kind == PIO_F16) return pio_f16_to_f32(((const uint16_t *)data)[at]);
  return ((const float *)data)[at];
}

// The sums of the keys [begin, end) into acc, their maximum and total behind them.
static void sum_keys(float *acc, const float *q, const struct pio_kv *kv, size_t begin, size_t end,
                     float scale) {
  size_t dim = kv->head_dim;
  float max = -INFINITY, sum = 0;
  memset(acc, 0, dim * sizeof(float));
  for (size_t j = begin; j < end; j++) {
    float score = 0;
    for (size_t i = 0; i < dim; i++) {
      score = fmaf(q[i] * scale, element(kv->keys, kv->key_scales, kv, j, i), score);
    }
    if (score > max) {  // what was summed so far shrinks by exp(old - new)
      float shrink = pio_exp(max - score);
      sum *= shrink;
      for (size_t i = 0; i < dim; i++) acc[i] *= shrink;
      max = score;
    }
    float p = pio_exp(score - max);
    sum += p;
    for (size_t i = 0; i < dim; i++) {
      acc[i] = fmaf(p, element(kv->values, kv->value_scales, kv, j, i), acc[i]);
    }
  }
  acc[dim] = max;
  acc[dim + 1] = sum;
}

static void attend(float *out, const float *q, const struct pio_kv *kv, size_t visible, float scale,
                   float *acc) {
  sum_keys(acc, q, kv, 0, visible, scale);
  for (size_t i = 0; i < kv->head_dim; i++) out[i] = acc[i] / acc[kv->head_dim + 1];
}

void pio_attention_part_scalar(float *part, const float *q, const struct pio_kv *kv, size_t heads,
                               size_t begin, size_t end, float scale, float *scratch) {
  size_t dim = kv->head_dim;
  for (size_t h = 0; h < heads; h++) {
    sum_keys(part + h * (dim + 2), q + h * dim, kv, begin, end, scale);
  }
  (void)scratch;
}

void pio_attention_merge(float *out, const float *parts, size_t part_stride, size_t count,
                         size_t heads, size_t head_dim) {
  for (size_t h = 0; h < heads; h++) {
    const float *first = parts + h * (head_dim + 2);
    float *y = out + h * head_dim, max = -INFINITY, total = 0;
    for (size_t p = 0; p < count; p++) {
      float mine = first[p * part_stride + head_dim];
      if (mine > max || mine != mine) max = mine;
    }
    memset(y, 0, head_dim * sizeof(float));
    for (size_t p = 0; p < count; p++) {
      const float *part = first + p * part_stride;
      float weight = pio_exp(part[head_dim] - max);
      total += weight * part[head_dim + 1];
      for (size_t i = 0; i < head_dim; i++) y[i] += weight * part[i];
    }
    for (size_t i = 0; i < head_dim; i++) y[i] /= total;
  }
}

void pio_attention_scalar(float *out, size_t out_stride, const float *q, size_t q_stride,
                          const struct pio_kv *kv, size_t rows, size_t heads, size_t first_visible,
                          size_t step, float scale, float *scratch) {
  for (size_t t = 0; t < rows; t++) {
    for (size_t h = 0; h < heads; h++) {
      size_t at = h * kv->head_dim;
      attend(out + t * out_stride + at, q + t * q_stride + at, kv, first_visible + t * step, scale,
             scratch);
    }
  }
}

void pio_attention_probabilities_scalar(float *out, size_t out_stride, const float *q,
                                        const struct pio_kv *kv, size_t heads, size_t visible,
                                        float scale, float *scratch) {
  (void)scratch;
  for (size_t h = 0; h < heads; h++) {
    float *scores = out + h * out_stride, most = -INFINITY, total = 0;
    for (size_t j = 0; j < visible; j++) {
      float score = 0;
      for (size_t i = 0; i < kv->head_dim; i++) {
        score = fmaf(q[h * kv->head_dim + i] * scale, element(kv->keys, kv->key_scales, kv, j, i),
                     score);
      }
      scores[j] = score;
      if (score > most || score != score) most = score;
    }
    for (size_t j = 0; j < visible; j++) total += scores[j] = pio_exp(scores[j] - most);
    for (size_t j = 0; j < visible; j++) scores[j] /= total;
  }
}

void pio_attention_all_scalar(float *out, size_t out_stride, const float *q, size_t q_stride,
                              const struct pio_kv *kv, size_t rows, size_t count, float scale,
                              float *scratch) {
  pio_attention_scalar(out, out_stride, q, q_stride, kv, rows, 1, count, 0, scale, scratch);
}
