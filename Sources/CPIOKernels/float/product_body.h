// The f32 product, for any vector of this folder.
#ifndef PIO_PRODUCT_BODY_H
#define PIO_PRODUCT_BODY_H

enum { LANES = VECTORS * WIDTH };

// acc[m] += sum over steps of a[m * a_row + s * a_step] * b[s * LANES ...]: `count` broadcast
// numbers (a constant where this is inlined) x one row of LANES.
INLINE void multiply(vf acc[TILE][VECTORS], const float *a, size_t a_row, size_t a_step,
                     const float *b, size_t steps, int count) {
  for (size_t s = 0; s < steps; s++) {
    vf row[VECTORS];
    UNROLL for (int v = 0; v < VECTORS; v++) row[v] = v_load(b + s * LANES + (size_t)v * WIDTH);
    UNROLL for (int m = 0; m < count; m++) {
      vf x = v_set(a[(size_t)m * a_row + s * a_step]);
      UNROLL for (int v = 0; v < VECTORS; v++) acc[m][v] = v_fma(x, row[v], acc[m][v]);
    }
  }
}

// out (rows, LANES) = shrink * out + A B, A (rows, steps) by strides, B (steps, LANES); where
// `shrink` is NULL, A B.
INLINE void product_tile(float *out, const float *shrink, const float *a, size_t a_row,
                         size_t a_step, const float *b, size_t steps, int count) {
  vf acc[TILE][VECTORS];
  UNROLL for (int m = 0; m < count; m++) {
    UNROLL for (int v = 0; v < VECTORS; v++) {
      size_t at = (size_t)m * LANES + (size_t)v * WIDTH;
      acc[m][v] = shrink ? v_mul(v_load(out + at), v_load(shrink + (size_t)v * WIDTH)) : v_set(0);
    }
  }
  multiply(acc, a, a_row, a_step, b, steps, count);
  UNROLL for (int m = 0; m < count; m++) {
    UNROLL for (int v = 0; v < VECTORS; v++) {
      v_store(out + (size_t)m * LANES + (size_t)v * WIDTH, acc[m][v]);
    }
  }
}

static void product(float *out, const float *shrink, const float *a, size_t a_row, size_t a_step,
                    const float *b, size_t steps, size_t rows) {
  size_t m = 0;
  for (; m + TILE <= rows; m += TILE) {
    product_tile(out + m * LANES, shrink, a + m * a_row, a_row, a_step, b, steps, TILE);
  }
  for (; m + 2 <= rows; m += 2) {
    product_tile(out + m * LANES, shrink, a + m * a_row, a_row, a_step, b, steps, 2);
  }
  if (m < rows) product_tile(out + m * LANES, shrink, a + m * a_row, a_row, a_step, b, steps, 1);
}

// The dot products of one x with `count` rows of w.
INLINE void dots(float *out, const float *w, size_t w_stride, const float *x, size_t cols,
                 int count) {
  vf acc[4];
  UNROLL for (int r = 0; r < count; r++) acc[r] = v_set(0);
  size_t i = 0;
  for (; i + WIDTH <= cols; i += WIDTH) {
    vf v = v_load(x + i);
    UNROLL for (int r = 0; r < count; r++) {
      acc[r] = v_fma(v, v_load(w + (size_t)r * w_stride + i), acc[r]);
    }
  }
  if (i < cols) {
    vf v = v_load_n(x + i, cols - i);
    UNROLL for (int r = 0; r < count; r++) {
      acc[r] = v_fma(v, v_load_n(w + (size_t)r * w_stride + i, cols - i), acc[r]);
    }
  }
  UNROLL for (int r = 0; r < count; r++) out[r] = v_sum(acc[r]);
}

static void all_dots(float *out, const float *w, size_t w_stride, const float *x, size_t cols,
                     size_t rows) {
  size_t r = 0;
  for (; r + 4 <= rows; r += 4) dots(out + r, w + r * w_stride, w_stride, x, cols, 4);
  for (; r < rows; r++) dots(out + r, w + r * w_stride, w_stride, x, cols, 1);
}

enum { CHUNK = 256, FEW = 6 };  // columns that are transposed at a time; tokens not worth it

// y (= or +=) sums (+ bias).
INLINE void finish(float *y, const float *sums, const float *bias, size_t rows, int add) {
  for (size_t r = 0; r < rows; r += WIDTH) {
    size_t n = rows - r < WIDTH ? rows - r : WIDTH;
    vf sum = v_load(sums + r);
    if (bias) sum = v_add(sum, n == WIDTH ? v_load(bias + r) : v_load_n(bias + r, n));
    if (n == WIDTH) {
      v_store(y + r, add ? v_add(v_load(y + r), sum) : sum);
    } else {
      v_store_n(y + r, add ? v_add(v_load_n(y + r, n), sum) : sum, n);
    }
  }
}

// LANES rows of w, transposed a chunk of columns at a time, against all tokens.
static void panel(float *y, size_t y_stride, const float *w, size_t w_stride, const float *x,
                  size_t x_stride, size_t tokens, size_t rows, size_t cols, const float *bias,
                  int accumulate) {
  float columns[CHUNK * LANES] __attribute__((aligned(64)));
  for (size_t begin = 0; begin < cols; begin += CHUNK) {
    size_t count = cols - begin < CHUNK ? cols - begin : CHUNK;
    if (rows < LANES) memset(columns, 0, sizeof columns);
    for (size_t r = 0; r < rows; r++) {
      const float *row = w + r * w_stride + begin;
      for (size_t i = 0; i < count; i++) columns[i * LANES + r] = row[i];
    }
    for (size_t t = 0; t < tokens; t += TILE) {
      float sums[TILE * LANES] __attribute__((aligned(64)));
      size_t tile = tokens - t < TILE ? tokens - t : TILE;
      product(sums, NULL, x + t * x_stride + begin, x_stride, 1, columns, count, tile);
      for (size_t m = 0; m < tile; m++) {
        finish(y + (t + m) * y_stride, sums + m * LANES, begin == 0 ? bias : NULL, rows,
               begin > 0 || accumulate);
      }
    }
  }
}

void NAME(gemm_f32)(float *y, size_t y_stride, const float *w, size_t w_stride, const float *x,
                    size_t x_stride, size_t tokens, size_t rows, size_t cols, const float *bias,
                    int accumulate) {
  for (size_t r = 0; r < rows; r += LANES) {
    size_t count = rows - r < LANES ? rows - r : LANES;
    const float *panel_bias = bias ? bias + r : NULL;
    if (tokens >= FEW) {
      panel(y + r, y_stride, w + r * w_stride, w_stride, x, x_stride, tokens, count, cols,
            panel_bias, accumulate);
      continue;
    }
    for (size_t t = 0; t < tokens; t++) {
      float sums[LANES] = {0};
      all_dots(sums, w + r * w_stride, w_stride, x + t * x_stride, cols, count);
      finish(y + t * y_stride + r, sums, panel_bias, count, accumulate);
    }
  }
}

#endif
