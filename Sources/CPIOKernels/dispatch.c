// The tables, and which of them this CPU can run.
#include "CPIOKernels.h"
#include "internal.h"
#include "tables.h"

static const struct pio_kernels scalar = PIO_TABLE("scalar", scalar, scalar);

const struct pio_kernels *pio_kernels_scalar(void) {
  return &scalar;
}

const struct pio_kernels *pio_kernels_best(void) {
  return &scalar;
}

const struct pio_kernels *pio_kernels_named(const char *isa) {
  return strcmp(isa, "scalar") == 0 ? &scalar : NULL;
}

size_t pio_attention_scratch(size_t head_dim) {
  return 128 * (head_dim + 16) + 2048;
}
