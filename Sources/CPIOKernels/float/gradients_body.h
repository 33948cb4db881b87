// Derivatives, one row or one run of numbers at a time, for any vector of this folder.
#ifndef PIO_GRADIENTS_BODY_H
#define PIO_GRADIENTS_BODY_H

#include "attention_body.h"
#include "rows_body.h"

void NAME(rms_norm_back)(float *out, const float *u, const float *x, const float *weight,
                         float epsilon, size_t dim) {
  vf dots[2] = {v_set(0), v_set(0)};
  size_t i = 0;
  for (; i + 2 * WIDTH <= dim; i += 2 * WIDTH) {
    UNROLL for (int c = 0; c < 2; c++) {
      size_t at = i + (size_t)c * WIDTH;
      dots[c] = v_fma(v_load(x + at), v_mul(v_load(weight + at), v_load(u + at)), dots[c]);
    }
  }
  float rest = 0;
  for (; i < dim; i++) rest = fmaf(x[i], weight[i] * u[i], rest);
  float dot = v_sum(v_add(dots[0], dots[1])) + rest;
  float inverse = 1 / sqrtf(sum_of_squares(x, 0, dim) / (float)dim + epsilon);
  vf scale = v_set(inverse), back = v_set(-dot * inverse * inverse / (float)dim);
  for (i = 0; i < dim; i += WIDTH) {
    size_t n = dim - i < WIDTH ? dim - i : WIDTH;
    vf scaled = v_mul(v_load_n(weight + i, n), v_load_n(u + i, n));
    v_store_n(out + i, v_mul(scale, v_fma(v_load_n(x + i, n), back, scaled)), n);
  }
}

void NAME(rope_back)(float *x, const float *cosines, const float *sines, size_t heads,
                     size_t head_dim) {
  size_t half = head_dim / 2;
  for (size_t h = 0; h < heads; h++) {
    float *low = x + h * head_dim, *high = low + half;
    for (size_t i = 0; i < half; i += WIDTH) {
      size_t n = half - i < WIDTH ? half - i : WIDTH;
      vf a = v_load_n(low + i, n), b = v_load_n(high + i, n);
      vf c = v_load_n(cosines + i, n), s = v_load_n(sines + i, n);
      v_store_n(low + i, v_fma(a, c, v_mul(b, s)), n);
      v_store_n(high + i, v_fma(b, c, v_sub(v_set(-0.0f), v_mul(a, s))), n);
    }
  }
}

void NAME(silu_mul_back)(float *gate, float *up, const float *dy, size_t count) {
  for (size_t i = 0; i < count; i += WIDTH) {
    size_t n = count - i < WIDTH ? count - i : WIDTH;
    vf g = v_load_n(gate + i, n), u = v_load_n(up + i, n), d = v_load_n(dy + i, n);
    vf s = v_div(v_set(1), v_add(v_set(1), v_exp(v_sub(v_set(-0.0f), g))));
    vf slope = v_mul(s, v_fma(g, v_sub(v_set(1), s), v_set(1)));
    v_store_n(gate + i, v_mul(v_mul(d, u), slope), n);
    v_store_n(up + i, v_mul(d, v_mul(g, s)), n);
  }
}

INLINE float greatest(const float *x, size_t count) {
  vf most = v_set(-INFINITY);
  size_t i = 0;
  for (; i + WIDTH <= count; i += WIDTH) most = v_max(v_load(x + i), most);
  float result = v_greatest(most);
  for (; i < count; i++) result = x[i] > result ? x[i] : result;
  return result;
}

// x = exp(scale * x - most); returns the sum.
INLINE float exponentials(float *x, float scale, float most, size_t count) {
  vf factor = v_set(scale), less = v_set(-most), total = v_set(0);
  size_t i = 0;
  for (; i + WIDTH <= count; i += WIDTH) {
    vf p = v_exp(v_fma(factor, v_load(x + i), less));
    v_store(x + i, p);
    total = v_add(total, p);
  }
  float sum = v_sum(total);
  for (; i < count; i++) sum += x[i] = pio_exp(fmaf(scale, x[i], -most));
  return sum;
}

INLINE void multiply_run(float *x, float factor, size_t count) {
  size_t i = 0;
  for (; i + WIDTH <= count; i += WIDTH) v_store(x + i, v_mul(v_load(x + i), v_set(factor)));
  for (; i < count; i++) x[i] *= factor;
}

void NAME(softmax)(float *x, float scale, size_t count) {
  float sum = exponentials(x, scale, scale * greatest(x, count), count);
  multiply_run(x, 1 / sum, count);
}

float NAME(exponentials)(float *x, float most, size_t count) {
  return exponentials(x, 1, most, count);
}

void NAME(kv_read)(float *out, const struct pio_kv *kv, int values, size_t begin, size_t count) {
  const void *data = values ? kv->values : kv->keys;
  const float *rows =
      widen(out, data, values ? kv->value_scales : kv->key_scales, kv, begin, count);
  if (rows != out) memcpy(out, rows, count * kv->head_dim * sizeof(float));
}

#endif
