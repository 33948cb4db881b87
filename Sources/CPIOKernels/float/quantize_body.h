// Quantizing of activations, keys and values, for any vector of this folder.
#ifndef PIO_QUANTIZE_BODY_H
#define PIO_QUANTIZE_BODY_H

// As `pio_quantize_run`, the same bits: every step is exact or rounded alike.
INLINE pio_quantized quantize_run(int8_t *values, const float *x, size_t count) {
  vf greatest = v_set(0), poison = v_set(0);
  for (size_t i = 0; i < count; i += WIDTH) {
    vf v = i + WIDTH <= count ? v_load(x + i) : v_load_n(x + i, count - i);
    greatest = v_max(v_abs(v), greatest);
    poison = v_add(poison, v_sub(v, v));
  }
  float scale = v_greatest(greatest) / 127, poisoned = v_sum(poison);
  if (poisoned != poisoned || scale == 0) {
    memset(values, 0, count);
    return (pio_quantized){poisoned != poisoned ? NAN : 0, 0};
  }
  vf divisor = v_set(scale);
  vi sum = vi_zero();
  for (size_t i = 0; i < count; i += WIDTH) {
    size_t n = count - i < WIDTH ? count - i : WIDTH;
    vf v = v_round(v_div(n == WIDTH ? v_load(x + i) : v_load_n(x + i, n), divisor));
    v = v_max(v_set(-127), v_min(v_set(127), v));
    if (n == WIDTH) {
      sum = vi_add(sum, v_store_i8(values + i, v));
    } else {
      int8_t lanes[WIDTH];
      sum = vi_add(sum, v_store_i8(lanes, v));
      memcpy(values + i, lanes, n);
    }
  }
  return (pio_quantized){scale, vi_sum(sum)};
}

void NAME(quantize)(struct pio_activations out, const float *x, size_t stride, size_t tokens,
                    size_t cols, uint32_t group) {
  size_t groups = pio_groups(cols, group);
  for (size_t t = 0; t < tokens; t++) {
    for (size_t g = 0; g < groups; g++) {
      size_t begin = g * group, count = begin + group < cols ? group : cols - begin;
      int8_t *values = out.values + t * groups * group + begin;
      memset(values + count, 0, group - count);
      pio_quantized q = quantize_run(values, x + t * stride + begin, count);
      out.scales[t * groups + g] = q.scale;
      out.sums[t * groups + g] = q.sum;
    }
  }
}

INLINE void narrow(uint16_t *out, const float *x, size_t count) {
  size_t i = 0;
  for (; i + WIDTH <= count; i += WIDTH) v_store_f16(out + i, v_load(x + i));
  for (; i < count; i++) out[i] = pio_f16_from_f32(x[i]);
}

void NAME(kv_store)(const struct pio_kv *kv, size_t position, const float *key,
                    const float *value) {
  size_t dim = kv->head_dim, at = position * dim;
  if (kv->kind == PIO_KV_INT8) {
    kv->key_scales[position] = quantize_run((int8_t *)kv->keys + at, key, dim).scale;
    kv->value_scales[position] = quantize_run((int8_t *)kv->values + at, value, dim).scale;
  } else if (kv->kind == PIO_F16) {
    narrow((uint16_t *)kv->keys + at, key, dim);
    narrow((uint16_t *)kv->values + at, value, dim);
  } else {
    memcpy((float *)kv->keys + at, key, dim * sizeof(float));
    memcpy((float *)kv->values + at, value, dim * sizeof(float));
  }
}

#endif
