// What choosing a token needs, for any vector of this folder. Needs rows_body.h.
#ifndef PIO_SELECT_BODY_H
#define PIO_SELECT_BODY_H

#include "rows_body.h"

enum { SPAN = 4 * WIDTH };  // numbers that are looked at together

// The greatest of SPAN numbers in each lane.
INLINE vf span_greatest(const float *x) {
  vf a = v_max(v_load(x), v_load(x + WIDTH));
  return v_max(a, v_max(v_load(x + 2 * WIDTH), v_load(x + 3 * WIDTH)));
}

size_t NAME(argmax)(const float *x, size_t count) {
  vf lanes = v_set(-INFINITY), poison = v_set(0);  // poison: NaN with the first NaN or infinity
  size_t i = 0;
  for (; i + WIDTH <= count; i += WIDTH) {
    vf v = v_load(x + i);
    lanes = v_max(v, lanes);
    poison = v_add(poison, v_sub(v, v));
  }
  float most = v_greatest(lanes), poisoned = v_sum(poison);
  for (; i < count; i++) {
    most = x[i] > most ? x[i] : most;
    poisoned += x[i] - x[i];
  }
  if (poisoned != poisoned) return count;
  for (i = 0; i + SPAN <= count && v_greatest(span_greatest(x + i)) < most;) i += SPAN;
  while (i < count && x[i] != most) i++;
  return i;
}

size_t NAME(at_least)(int32_t *out, const float *x, size_t count, float threshold, size_t most) {
  size_t found = 0;
  for (size_t i = 0; i < count; i += SPAN) {
    size_t n = count - i < SPAN ? count - i : SPAN;
    if (n == SPAN && v_greatest(span_greatest(x + i)) < threshold) continue;
    for (size_t j = i; j < i + n; j++) {
      if (!(x[j] >= threshold)) continue;
      if (found == most) return most + 1;
      out[found++] = (int32_t)j;
    }
  }
  return found;
}

void NAME(exp_run)(float *x, size_t count, float maximum, float factor) {
  vf m = v_set(maximum), f = v_set(factor);
  size_t i = 0;
  for (; i + WIDTH <= count; i += WIDTH) {
    v_store(x + i, v_exp(v_mul(v_sub(v_load(x + i), m), f)));
  }
  if (i < count) {
    v_store_n(x + i, v_exp(v_mul(v_sub(v_load_n(x + i, count - i), m), f)), count - i);
  }
}

#endif
