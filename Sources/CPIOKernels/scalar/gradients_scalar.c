// Derivatives, the oracles.
#include "../internal.h"
#include "../tables.h"

void pio_rms_norm_back_scalar(float *out, const float *u, const float *x, const float *weight,
                              float epsilon, size_t dim) {
  float squares = 0, dot = 0;
  for (size_t i = 0; i < dim; i++) {
    squares = fmaf(x[i], x[i], squares);
    dot = fmaf(x[i], weight[i] * u[i], dot);
  }
  float inverse = 1 / sqrtf(squares / (float)dim + epsilon);
  float back = -dot * inverse * inverse / (float)dim;
  for (size_t i = 0; i < dim; i++) out[i] = inverse * fmaf(x[i], back, weight[i] * u[i]);
}

void pio_rope_back_scalar(float *x, const float *cosines, const float *sines, size_t heads,
                          size_t head_dim) {
  size_t half = head_dim / 2;
  for (size_t h = 0; h < heads; h++) {
    float *low = x + h * head_dim, *high = low + half;
    for (size_t i = 0; i < half; i++) {
      float a = low[i], b = high[i];
      low[i] = fmaf(a, cosines[i], b * sines[i]);
      high[i] = fmaf(b, cosines[i], -(a * sines[i]));
    }
  }
}

void pio_silu_mul_back_scalar(float *gate, float *up, const float *dy, size_t count) {
  for (size_t i = 0; i < count; i++) {
    float g = gate[i], s = 1 / (1 + pio_exp(-g));
    gate[i] = dy[i] * up[i] * (s * fmaf(g, 1 - s, 1));
    up[i] = dy[i] * (g * s);
  }
}

static float exponentials(float *x, float scale, float most, size_t count) {
  float sum = 0;
  for (size_t i = 0; i < count; i++) sum += x[i] = pio_exp(fmaf(scale, x[i], -most));
  return sum;
}

float pio_exponentials_scalar(float *x, float most, size_t count) {
  return exponentials(x, 1, most, count);
}

static size_t argmax(const float *x, size_t count) {
  size_t best = 0;
  for (size_t i = 1; i < count; i++) best = x[i] > x[best] ? i : best;
  return best;
}

void pio_softmax_scalar(float *x, float scale, size_t count) {
  float factor = 1 / exponentials(x, scale, scale * x[argmax(x, count)], count);
  for (size_t i = 0; i < count; i++) x[i] *= factor;
}

void pio_kv_read_scalar(float *out, const struct pio_kv *kv, int values, size_t begin,
                        size_t count) {
  const void *data = values ? kv->values : kv->keys;
  const float *scales = values ? kv->value_scales : kv->key_scales;
  for (size_t i = 0; i < count * kv->head_dim; i++) {
    size_t at = begin * kv->head_dim + i;
    if (kv->kind == PIO_KV_INT8) {
      out[i] = scales[begin + i / kv->head_dim] * (float)((const int8_t *)data)[at];
    } else if (kv->kind == PIO_F16) {
      out[i] = pio_f16_to_f32(((const uint16_t *)data)[at]);
    } else {
      out[i] = ((const float *)data)[at];
    }
  }
}
