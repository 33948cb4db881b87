// Operations on one row or one run of numbers, for any vector of this folder.
#ifndef PIO_ROWS_BODY_H
#define PIO_ROWS_BODY_H

#include "exp_body.h"

INLINE vf v_erf(vf x) {
  vf a = v_abs(x), s = v_mul(x, x);
  vf p = v_fma(v_set(PIO_ERF_P6), s, v_set(PIO_ERF_P5));
  p = v_fma(p, s, v_set(PIO_ERF_P4));
  p = v_fma(p, s, v_set(PIO_ERF_P3));
  p = v_fma(p, s, v_set(PIO_ERF_P2));
  p = v_fma(p, s, v_set(PIO_ERF_P1));
  vf small = v_mul(x, v_fma(p, s, v_set(PIO_ERF_P0)));
  vf bounded = v_min(v_set(4), a);
  vf g = v_fma(v_set(PIO_ERF_G7), bounded, v_set(PIO_ERF_G6));
  g = v_fma(g, bounded, v_set(PIO_ERF_G5));
  g = v_fma(g, bounded, v_set(PIO_ERF_G4));
  g = v_fma(g, bounded, v_set(PIO_ERF_G3));
  g = v_fma(g, bounded, v_set(PIO_ERF_G2));
  g = v_fma(g, bounded, v_set(PIO_ERF_G1));
  g = v_fma(g, bounded, v_set(PIO_ERF_G0));
  vf large = v_copysign(v_sub(v_set(1), v_exp(g)), x);
  return v_if_less(v_set(1), a, large, small);
}

// Calls STEP(x) on the vectors of a run: x = STEP(x).
#define FOR_RUN(out, in, count, STEP)                                                    \
  do {                                                                                   \
    size_t i = 0;                                                                        \
    for (; i + WIDTH <= (count); i += WIDTH) v_store((out) + i, STEP(v_load((in) + i))); \
    if (i < (count)) {                                                                   \
      v_store_n((out) + i, STEP(v_load_n((in) + i, (count)-i)), (count)-i);              \
    }                                                                                    \
  } while (0)

INLINE float sum_of_squares(const float *x, float mean, size_t dim) {
  vf sums[4] = {v_set(0), v_set(0), v_set(0), v_set(0)}, m = v_set(mean);
  size_t i = 0;
  for (; i + 4 * WIDTH <= dim; i += 4 * WIDTH) {
    UNROLL for (int c = 0; c < 4; c++) {
      vf d = v_sub(v_load(x + i + (size_t)c * WIDTH), m);
      sums[c] = v_fma(d, d, sums[c]);
    }
  }
  float rest = 0;
  for (; i < dim; i++) rest = fmaf(x[i] - mean, x[i] - mean, rest);
  return v_sum(v_add(v_add(sums[0], sums[1]), v_add(sums[2], sums[3]))) + rest;
}

void NAME(rms_norm)(float *out, const float *x, const float *weight, float epsilon, size_t dim) {
  vf inverse = v_set(1 / sqrtf(sum_of_squares(x, 0, dim) / (float)dim + epsilon));
  size_t i = 0;
  for (; i + WIDTH <= dim; i += WIDTH) {
    v_store(out + i, v_mul(v_mul(v_load(x + i), inverse), v_load(weight + i)));
  }
  if (i < dim) {
    vf scaled = v_mul(v_load_n(x + i, dim - i), inverse);
    v_store_n(out + i, v_mul(scaled, v_load_n(weight + i, dim - i)), dim - i);
  }
}

void NAME(layer_norm)(float *out, const float *x, const float *weight, const float *bias,
                      float epsilon, size_t dim) {
  vf sum = v_set(0);
  size_t i = 0;
  for (; i + WIDTH <= dim; i += WIDTH) sum = v_add(sum, v_load(x + i));
  if (i < dim) sum = v_add(sum, v_load_n(x + i, dim - i));
  float mean = v_sum(sum) / (float)dim;
  vf inverse = v_set(1 / sqrtf(sum_of_squares(x, mean, dim) / (float)dim + epsilon));
  vf m = v_set(mean);
  for (i = 0; i + WIDTH <= dim; i += WIDTH) {
    vf scaled = v_mul(v_sub(v_load(x + i), m), inverse);
    v_store(out + i, v_fma(scaled, v_load(weight + i), v_load(bias + i)));
  }
  if (i < dim) {
    size_t n = dim - i;
    vf scaled = v_mul(v_sub(v_load_n(x + i, n), m), inverse);
    v_store_n(out + i, v_fma(scaled, v_load_n(weight + i, n), v_load_n(bias + i, n)), n);
  }
}

void NAME(rope)(float *x, const float *cosines, const float *sines, size_t heads, size_t head_dim) {
  size_t half = head_dim / 2;
  for (size_t h = 0; h < heads; h++) {
    float *low = x + h * head_dim, *high = low + half;
    for (size_t i = 0; i < half; i += WIDTH) {
      size_t n = half - i < WIDTH ? half - i : WIDTH;
      vf a = v_load_n(low + i, n), b = v_load_n(high + i, n);
      vf c = v_load_n(cosines + i, n), s = v_load_n(sines + i, n);
      v_store_n(low + i, v_fma(a, c, v_sub(v_set(-0.0f), v_mul(b, s))), n);
      v_store_n(high + i, v_fma(b, c, v_mul(a, s)), n);
    }
  }
}

// x * sigmoid(u).
INLINE vf gated(vf x, vf u) {
  return v_div(x, v_add(v_set(1), v_exp(v_sub(v_set(-0.0f), u))));
}

void NAME(silu_mul)(float *gate, const float *up, size_t count) {
  size_t i = 0;
  for (; i + WIDTH <= count; i += WIDTH) {
    vf x = v_load(gate + i);
    v_store(gate + i, v_mul(gated(x, x), v_load(up + i)));
  }
  if (i < count) {
    vf x = v_load_n(gate + i, count - i);
    v_store_n(gate + i, v_mul(gated(x, x), v_load_n(up + i, count - i)), count - i);
  }
}

INLINE vf gelu_erf(vf x) {
  vf one_more = v_add(v_set(1), v_erf(v_mul(x, v_set(PIO_SQRT_HALF))));
  return v_mul(v_mul(v_set(0.5f), x), one_more);
}

INLINE vf gelu_tanh(vf x) {
  return gated(x, v_mul(x, v_fma(v_set(PIO_GELU_B), v_mul(x, x), v_set(PIO_GELU_A))));
}

INLINE vf gelu_quick(vf x) {
  return gated(x, v_mul(v_set(PIO_GELU_QUICK), x));
}

void NAME(activate)(float *x, size_t count, int kind) {
  if (kind == 0) {
    FOR_RUN(x, x, count, gelu_erf);
  } else if (kind == 1) {
    FOR_RUN(x, x, count, gelu_tanh);
  } else {
    FOR_RUN(x, x, count, gelu_quick);
  }
}

void NAME(add)(float *y, const float *x, size_t count) {
  size_t i = 0;
  for (; i + WIDTH <= count; i += WIDTH) v_store(y + i, v_add(v_load(y + i), v_load(x + i)));
  for (; i < count; i++) y[i] += x[i];
}

void NAME(f16_to_f32)(float *out, const uint16_t *x, size_t count) {
  size_t i = 0;
  for (; i + WIDTH <= count; i += WIDTH) v_store(out + i, v_load_f16(x + i));
  for (; i < count; i++) out[i] = pio_f16_to_f32(x[i]);
}

void NAME(bf16_to_f32)(float *out, const uint16_t *x, size_t count) {
  size_t i = 0;
  for (; i + WIDTH <= count; i += WIDTH) v_store(out + i, v_load_bf16(x + i));
  for (; i < count; i++) out[i] = pio_bf16_to_f32(x[i]);
}

#endif
