// The self-test of a table: what is cheap enough to run before a first answer.
#include "internal.h"

enum { TOKENS = 9, ROWS = 24, COLS = 120, GROUP = 64, GROUPS = 2, PADDED = 128, DIM = 24 };

// A fixed sequence in -1...1; no state is kept between calls of the test.
static float next(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return (float)(int32_t)*state * 0x1p-31f;
}

struct quantized {
  int8_t values[TOKENS * PADDED];
  float scales[TOKENS * GROUPS];
  int32_t sums[TOKENS * GROUPS];
};

static int quantize_fails(const struct pio_kernels *k, const float *x, struct quantized *q) {
  struct quantized twin;
  struct pio_activations a = {q->values, q->scales, q->sums};
  struct pio_activations b = {twin.values, twin.scales, twin.sums};
  k->quantize(a, x, COLS, TOKENS, COLS, GROUP);
  pio_kernels_scalar()->quantize(b, x, COLS, TOKENS, COLS, GROUP);
  return memcmp(q, &twin, sizeof twin) != 0;
}

struct weights {
  uint8_t blocks[2 * GROUPS * (16 * GROUP + 64)];
  struct pio_matrix matrix;
};

static void draw_weights(struct weights *w, uint32_t quant, uint32_t *state) {
  size_t code_bytes = pio_codes_bytes(quant, GROUP), bytes = pio_block_bytes(quant, GROUP);
  for (size_t b = 0; b < 2 * GROUPS; b++) {
    for (size_t i = 0; i < code_bytes; i++) {
      w->blocks[b * bytes + i] = (uint8_t)(int)(128 + 127 * next(state));
    }
    for (size_t i = code_bytes; i < bytes; i += 2) {
      uint16_t bits = pio_f16_from_f32(next(state));
      memcpy(w->blocks + b * bytes + i, &bits, 2);
    }
  }
  w->matrix = (struct pio_matrix){w->blocks, ROWS, COLS, GROUP, quant};
}

static int gemm_fails(const struct pio_kernels *k, struct quantized *q, const struct weights *w) {
  struct pio_activations x = {q->values, q->scales, q->sums};
  for (size_t tokens = 1; tokens <= TOKENS; tokens += TOKENS - 1) {
    float y[TOKENS * ROWS] = {0}, twin[TOKENS * ROWS] = {0};
    k->gemm(y, ROWS, &w->matrix, x, tokens, 0, 2, NULL, 0);
    pio_kernels_scalar()->gemm(twin, ROWS, &w->matrix, x, tokens, 0, 2, NULL, 0);
    if (memcmp(y, twin, sizeof y) != 0) return 1;
  }
  return 0;
}

// The proxy rows of a saliency are four.
static int transposed_fails(const struct pio_kernels *k, const float *x, const struct weights *w) {
  float y[4 * COLS] = {0}, twin[4 * COLS] = {0};
  k->gradients.gemm_transposed_int8(y, COLS, &w->matrix, 0, ROWS, 1, 2, x, ROWS, 4, 0);
  pio_kernels_scalar()->gradients.gemm_transposed_int8(twin, COLS, &w->matrix, 0, ROWS, 1, 2, x,
                                                       ROWS, 4, 0);
  return memcmp(y, twin, sizeof y) != 0;
}

static int attention_fails(const struct pio_kernels *k, uint32_t *state) {
  float keys[40 * DIM], values[40 * DIM], q[TOKENS * DIM], y[TOKENS * DIM], twin[TOKENS * DIM];
  float scratch[PIO_ATTENTION_ALL_SCRATCH(DIM)];
  _Static_assert(PIO_ATTENTION_ALL_SCRATCH(DIM) >= PIO_ATTENTION_SCRATCH(DIM), "the larger one");
  for (size_t i = 0; i < 40 * DIM; i++) keys[i] = next(state);
  for (size_t i = 0; i < 40 * DIM; i++) values[i] = next(state);
  for (size_t i = 0; i < TOKENS * DIM; i++) q[i] = next(state);
  struct pio_kv kv = {keys, values, NULL, NULL, PIO_F32, DIM};
  for (size_t rows = 1; rows <= TOKENS; rows += TOKENS - 1) {
    k->attention(y, DIM, q, DIM, &kv, rows, 1, 40 - TOKENS, 1, 0.5f, scratch);
    pio_kernels_scalar()->attention(twin, DIM, q, DIM, &kv, rows, 1, 40 - TOKENS, 1, 0.5f, scratch);
    for (size_t i = 0; i < rows * DIM; i++) {
      if (!(fabsf(y[i] - twin[i]) <= 1e-5f)) return 1;
    }
  }
  k->attention_all(y, DIM, q, DIM, &kv, TOKENS, 39, 0.5f, scratch);
  pio_kernels_scalar()->attention_all(twin, DIM, q, DIM, &kv, TOKENS, 39, 0.5f, scratch);
  for (size_t i = 0; i < TOKENS * DIM; i++) {
    if (!(fabsf(y[i] - twin[i]) <= 0.01f)) return 1;
  }
  return 0;
}

int pio_kernels_self_test(const struct pio_kernels *kernels) {
  uint32_t state = 1;
  float x[TOKENS * COLS];
  for (size_t i = 0; i < TOKENS * COLS; i++) x[i] = next(&state);
  struct quantized q;
  if (quantize_fails(kernels, x, &q)) return 1;
  for (uint32_t quant = PIO_INT8; quant <= PIO_INT4_AFFINE; quant++) {
    struct weights w;
    draw_weights(&w, quant, &state);
    if (gemm_fails(kernels, &q, &w)) return 2;
    if (transposed_fails(kernels, x, &w)) return 4;
  }
  return attention_fails(kernels, &state) ? 3 : 0;
}
