// Operations on one row or one run of numbers, the oracles.
#include "../internal.h"
#include "../tables.h"

void pio_rms_norm_scalar(float *out, const float *x, const float *weight, float epsilon,
                         size_t dim) {
  float squares = 0;
  for (size_t i = 0; i < dim; i++) squares = fmaf(x[i], x[i], squares);
  float inverse = 1 / sqrtf(squares / (float)dim + epsilon);
  for (size_t i = 0; i < dim; i++) out[i] = x[i] * inverse * weight[i];
}

void pio_layer_norm_scalar(float *out, const float *x, const float *weight, const float *bias,
                           float epsilon, size_t dim) {
  float sum = 0, squares = 0;
  for (size_t i = 0; i < dim; i++) sum += x[i];
  float mean = sum / (float)dim;
  for (size_t i = 0; i < dim; i++) squares = fmaf(x[i] - mean, x[i] - mean, squares);
  float inverse = 1 / sqrtf(squares / (float)dim + epsilon);
  for (size_t i = 0; i < dim; i++) out[i] = fmaf((x[i] - mean) * inverse, weight[i], bias[i]);
}

void pio_rope_scalar(float *x, const float *cosines, const float *sines, size_t heads,
                     size_t head_dim) {
  size_t half = head_dim / 2;
  for (size_t h = 0; h < heads; h++) {
    float *low = x + h * head_dim, *high = low + half;
    for (size_t i = 0; i < half; i++) {
      float a = low[i], b = high[i];
      low[i] = fmaf(a, cosines[i], -(b * sines[i]));
      high[i] = fmaf(b, cosines[i], a * sines[i]);
    }
  }
}

void pio_silu_mul_scalar(float *gate, const float *up, size_t count) {
  for (size_t i = 0; i < count; i++) gate[i] = gate[i] / (1 + pio_exp(-gate[i])) * up[i];
}

void pio_activate_scalar(float *x, size_t count, int kind) {
  for (size_t i = 0; i < count; i++) {
    if (kind == 0) {
      x[i] = 0.5f * x[i] * (1 + pio_erf(x[i] * PIO_SQRT_HALF));
    } else {
      x[i] = x[i] / (1 + pio_exp(-pio_gelu_argument(x[i], kind)));
    }
  }
}

void pio_add_scalar(float *y, const float *x, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] += x[i];
}

void pio_f16_to_f32_scalar(float *out, const uint16_t *x, size_t count) {
  for (size_t i = 0; i < count; i++) out[i] = pio_f16_to_f32(x[i]);
}

void pio_bf16_to_f32_scalar(float *out, const uint16_t *x, size_t count) {
  for (size_t i = 0; i < count; i++) out[i] = pio_bf16_to_f32(x[i]);
}
