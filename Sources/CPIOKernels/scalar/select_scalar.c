// What choosing a token needs, the oracles.
#include "../internal.h"
#include "../tables.h"

size_t pio_argmax_scalar(const float *x, size_t count) {
  size_t best = 0;
  for (size_t i = 0; i < count; i++) {
    if (!isfinite(x[i])) return count;
    if (x[i] > x[best]) best = i;
  }
  return best;
}

size_t pio_at_least_scalar(int32_t *out, const float *x, size_t count, float threshold,
                           size_t most) {
  size_t found = 0;
  for (size_t i = 0; i < count; i++) {
    if (!(x[i] >= threshold)) continue;
    if (found == most) return most + 1;
    out[found++] = (int32_t)i;
  }
  return found;
}

void pio_exp_run_scalar(float *x, size_t count, float maximum, float factor) {
  for (size_t i = 0; i < count; i++) x[i] = pio_exp((x[i] - maximum) * factor);
}
