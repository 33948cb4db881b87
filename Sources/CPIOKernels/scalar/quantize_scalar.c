// Quantizing of activations, the oracle.
#include <math.h>

#include "../internal.h"
#include "../tables.h"

void pio_quantize_scalar(struct pio_activations out, const float *x, size_t stride, size_t tokens,
                         size_t cols, uint32_t group) {
  size_t groups = pio_groups(cols, group);
  for (size_t t = 0; t < tokens; t++) {
    for (size_t g = 0; g < groups; g++) {
      size_t begin = g * group, count = begin + group < cols ? group : cols - begin;
      int8_t *values = out.values + t * groups * group + begin;
      memset(values + count, 0, group - count);
      pio_quantized q = pio_quantize_run(values, x + t * stride + begin, count);
      out.scales[t * groups + g] = q.scale;
      out.sums[t * groups + g] = q.sum;
    }
  }
}

void pio_kv_store_scalar(const struct pio_kv *kv, size_t position, const float *key,
                         const float *value) {
  size_t dim = kv->head_dim, at = position * dim;
  if (kv->kind == PIO_KV_INT8) {
    kv->key_scales[position] = pio_quantize_run((int8_t *)kv->keys + at, key, dim).scale;
    kv->value_scales[position] = pio_quantize_run((int8_t *)kv->values + at, value, dim).scale;
  } else if (kv->kind == PIO_F16) {
    for (size_t i = 0; i < dim; i++) ((uint16_t *)kv->keys)[at + i] = pio_f16_from_f32(key[i]);
    for (size_t i = 0; i < dim; i++) ((uint16_t *)kv->values)[at + i] = pio_f16_from_f32(value[i]);
  } else {
    memcpy((float *)kv->keys + at, key, dim * sizeof(float));
    memcpy((float *)kv->values + at, value, dim * sizeof(float));
  }
}
