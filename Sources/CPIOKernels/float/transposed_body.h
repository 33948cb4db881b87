// Products with transposed weights, for any vector of this folder.
//
// Few tokens: each lane is one of a block's 16 rows, so weights are used as they lie and the sums
// of a column are folded together at its end. Many tokens: weights are dequantized into a tile of
// columns, which all tokens then pass over.
#ifndef PIO_TRANSPOSED_BODY_H
#define PIO_TRANSPOSED_BODY_H

#include "gradients_body.h"

enum {
  TILE_COLS = 32,
  TILE_ROWS = 128,                    // 16 KiB of weights: half a first-level cache
  TILE_VECTORS = TILE_COLS / WIDTH,   //
  TILE_TOKENS = WIDTH == 16 ? 8 : 2,  // as many sums as there are registers for
  FEW_TOKENS = 4,                     // tokens up to which weights are used as they lie
  ROW_VECTORS = PIO_ROWS / WIDTH,     //
  STRIPE = 4                          // row-blocks that share a load of the sums
};

// y (count, cols <= TILE_COLS) (+)= x (count, steps) times a tile (steps, TILE_COLS).
INLINE void add_tile(float *y, size_t y_stride, const float *x, size_t x_stride, size_t x_step,
                     const float *tile, size_t steps, size_t cols, int accumulate, int count) {
  vf acc[TILE_TOKENS][TILE_VECTORS];
  UNROLL for (int m = 0; m < count; m++) {
    UNROLL for (int v = 0; v < TILE_VECTORS; v++) acc[m][v] = v_set(0);
  }
  for (size_t s = 0; s < steps; s++) {
    UNROLL for (int m = 0; m < count; m++) {
      vf factor = v_set(x[(size_t)m * x_stride + s * x_step]);
      UNROLL for (int v = 0; v < TILE_VECTORS; v++) {
        acc[m][v] = v_fma(factor, v_load(tile + s * TILE_COLS + (size_t)v * WIDTH), acc[m][v]);
      }
    }
  }
  UNROLL for (int m = 0; m < count; m++) {
    UNROLL for (int v = 0; v < TILE_VECTORS; v++) {
      size_t at = (size_t)v * WIDTH;
      float *out = y + (size_t)m * y_stride + at;
      if (at >= cols) continue;
      if (at + WIDTH <= cols) {
        v_store(out, accumulate ? v_add(v_load(out), acc[m][v]) : acc[m][v]);
      } else {
        vf before = accumulate ? v_load_n(out, cols - at) : v_set(0);
        v_store_n(out, v_add(before, acc[m][v]), cols - at);
      }
    }
  }
}

static void add_tiles(float *y, size_t y_stride, const float *x, size_t x_stride, size_t x_step,
                      const float *tile, size_t steps, size_t cols, int accumulate, size_t tokens) {
  size_t t = 0;
  for (; t + TILE_TOKENS <= tokens; t += TILE_TOKENS) {
    add_tile(y + t * y_stride, y_stride, x + t * x_stride, x_stride, x_step, tile, steps, cols,
             accumulate, TILE_TOKENS);
  }
  for (; t + 2 <= tokens; t += 2) {
    add_tile(y + t * y_stride, y_stride, x + t * x_stride, x_stride, x_step, tile, steps, cols,
             accumulate, 2);
  }
  if (t < tokens) {
    add_tile(y + t * y_stride, y_stride, x + t * x_stride, x_stride, x_step, tile, steps, cols,
             accumulate, 1);
  }
}

// Scales (plane 0) or minima (plane 1) of a block's rows.
INLINE void load_plane(float out[PIO_ROWS], const uint8_t *block, uint32_t quant, uint32_t group,
                       size_t plane) {
  uint16_t bits[PIO_ROWS];
  memcpy(bits, block + pio_codes_bytes(quant, group) + 2 * PIO_ROWS * plane, sizeof bits);
  UNROLL for (size_t v = 0; v < PIO_ROWS; v += WIDTH) v_store(out + v, v_load_f16(bits + v));
}

// Rows first...last of one sub-block as f32, (last - first, TILE_COLS): code * scale + base.
INLINE void unpack_rows(float *tile, const uint8_t *sub, uint32_t quant, const float *scales,
                        const float *bases, size_t first, size_t last) {
  for (size_t r = first; r < last; r++) {
    int8_t codes[PIO_SUB];
    uint32_t four;
    if (quant == PIO_INT8) {
      UNROLL for (size_t j = 0; j < 8; j++) {
        memcpy(&four, sub + 64 * j + 4 * r, 4);
        four ^= 0x80808080;
        memcpy(codes + 4 * j, &four, 4);
      }
    } else {
      UNROLL for (size_t j = 0; j < 4; j++) {
        memcpy(&four, sub + 64 * j + 4 * r, 4);
        uint32_t low = four & 0x0f0f0f0f, high = four >> 4 & 0x0f0f0f0f;
        memcpy(codes + 4 * j, &low, 4);
        memcpy(codes + 16 + 4 * j, &high, 4);
      }
    }
    vf scale = v_set(scales[r]), base = v_set(bases[r]);
    UNROLL for (int v = 0; v < TILE_VECTORS; v++) {
      vf code = v_load_i8(codes + v * WIDTH);
      v_store(tile + (r - first) * TILE_COLS + (size_t)v * WIDTH, v_fma(code, scale, base));
    }
  }
}

// The weight rows [begin, end) of sub-block `sub` of group `g` as f32, (end - begin, TILE_COLS).
static void unpack_tile(float *tile, const struct pio_matrix *w, size_t begin, size_t end, size_t g,
                        size_t sub) {
  size_t sub_bytes = pio_codes_bytes(w->quant, PIO_SUB);
  for (size_t r = begin; r < end;) {
    size_t first = r % PIO_ROWS, last = PIO_ROWS;
    if (r - first + last > end) last = end - (r - first);
    const uint8_t *block = pio_block(w, r / PIO_ROWS, g);
    float scales[PIO_ROWS], bases[PIO_ROWS] = {0};
    load_plane(scales, block, w->quant, w->group, 0);
    if (w->quant == PIO_INT4_AFFINE) {
      load_plane(bases, block, w->quant, w->group, 1);
    } else if (w->quant == PIO_INT4) {
      for (size_t i = 0; i < PIO_ROWS; i++) bases[i] = -8 * scales[i];
    }
    float *out = tile + (r - begin) * TILE_COLS;
    const uint8_t *codes = block + sub * sub_bytes;
    if (w->quant == PIO_INT8) {
      unpack_rows(out, codes, PIO_INT8, scales, bases, first, last);
    } else {
      unpack_rows(out, codes, PIO_INT4, scales, bases, first, last);
    }
    r += last - first;
  }
}

static void many_transposed(float *y, size_t y_stride, const struct pio_matrix *w, size_t row_begin,
                            size_t row_end, size_t group_begin, size_t group_end, const float *x,
                            size_t x_stride, size_t tokens, int accumulate) {
  float tile[TILE_ROWS * TILE_COLS] __attribute__((aligned(64)));
  for (size_t begin = row_begin; begin < row_end; begin += TILE_ROWS) {
    size_t end = begin + TILE_ROWS < row_end ? begin + TILE_ROWS : row_end;
    for (size_t g = group_begin; g < group_end; g++) {
      for (size_t sub = 0; sub < w->group / PIO_SUB; sub++) {
        size_t col = g * w->group + sub * PIO_SUB;
        if (col >= w->cols) break;
        unpack_tile(tile, w, begin, end, g, sub);
        add_tiles(y + col, y_stride, x + (begin - row_begin), x_stride, 1, tile, end - begin,
                  w->cols - col < TILE_COLS ? w->cols - col : TILE_COLS,
                  accumulate || begin > row_begin, tokens);
      }
    }
  }
}

// What one row-block brings to a few tokens: x times the rows' scales.
struct stripe {
  const uint8_t *codes;
  vf x[FEW_TOKENS][ROW_VECTORS];
};

// x of one token for the 16 rows of a block, 0 outside of [row_begin, row_end).
INLINE void load_block(float out[PIO_ROWS], const float *x, size_t block, size_t row_begin,
                       size_t row_end) {
  size_t row = block * PIO_ROWS;
  for (size_t r = 0; r < PIO_ROWS; r++) {
    out[r] = row + r >= row_begin && row + r < row_end ? x[row + r - row_begin] : 0;
  }
}

// acc[c][t] += the 4 columns of a line whose codes have their top bit at `top` + 8 c, `width` wide.
INLINE void add_line(vf *acc, const struct stripe *stripes, size_t line, int top, int width,
                     int tokens) {
  UNROLL for (int c = 0; c < 4; c++) {
    vf sums[FEW_TOKENS];
    UNROLL for (int t = 0; t < tokens; t++) sums[t] = acc[c * FEW_TOKENS + t];
    UNROLL for (int b = 0; b < STRIPE; b++) {
      UNROLL for (int v = 0; v < ROW_VECTORS; v++) {
        vi codes = vi_load(stripes[b].codes + 64 * line + 4 * (size_t)(v * WIDTH));
        codes = vi_xor(codes, width == 8 ? (int32_t)0x80808080 : (int32_t)0x88888888);
        vf code = v_bits(codes, 31 - top - 8 * c, 32 - width);
        UNROLL for (int t = 0; t < tokens; t++) sums[t] = v_fma(code, stripes[b].x[t][v], sums[t]);
      }
    }
    UNROLL for (int t = 0; t < tokens; t++) acc[c * FEW_TOKENS + t] = sums[t];
  }
}

// One group of columns for `tokens` tokens (a constant where this is inlined).
INLINE void few_group(float *y, size_t y_stride, const struct pio_matrix *w, size_t row_begin,
                      size_t row_end, size_t g, const float *x, size_t x_stride, int accumulate,
                      int tokens) {
  vf acc[128 * FEW_TOKENS], minima[FEW_TOKENS];
  for (size_t i = 0; i < (size_t)w->group * FEW_TOKENS; i++) acc[i] = v_set(0);
  UNROLL for (int t = 0; t < tokens; t++) minima[t] = v_set(0);
  const int is_int8 = w->quant == PIO_INT8, affine = w->quant == PIO_INT4_AFFINE;
  const size_t lines = pio_codes_bytes(w->quant, w->group) / 64;
  const size_t row_bytes = pio_groups(w->cols, w->group) * pio_block_bytes(w->quant, w->group);
  const size_t first = row_begin / PIO_ROWS, last = (row_end + PIO_ROWS - 1) / PIO_ROWS;
  for (size_t block = first; block < last; block += STRIPE) {
    struct stripe stripes[STRIPE];
    for (size_t b = 0; b < STRIPE; b++) {
      // Past the last block: the last one again, times zero.
      size_t at = block + b < last ? block + b : last - 1;
      stripes[b].codes = pio_block(w, at, g);
      float scales[PIO_ROWS], least[PIO_ROWS], values[PIO_ROWS];
      load_plane(scales, stripes[b].codes, w->quant, w->group, 0);
      if (affine) load_plane(least, stripes[b].codes, w->quant, w->group, 1);
      UNROLL for (int t = 0; t < tokens; t++) {
        load_block(values, x + (size_t)t * x_stride, block + b, row_begin, row_end);
        UNROLL for (int v = 0; v < ROW_VECTORS; v++) {
          vf value = v_load(values + v * WIDTH);
          stripes[b].x[t][v] = v_mul(value, v_load(scales + v * WIDTH));
          if (affine) {  // the codes below are less by 8
            vf base = v_fma(v_set(8), v_load(scales + v * WIDTH), v_load(least + v * WIDTH));
            minima[t] = v_fma(value, base, minima[t]);
          }
        }
      }
    }
    for (size_t line = 0; line < lines; line++) {
      for (size_t b = 0; b < STRIPE; b++) {
        __builtin_prefetch(stripes[b].codes + STRIPE * row_bytes + 64 * line);
      }
      if (is_int8) {
        add_line(acc + 4 * line * FEW_TOKENS, stripes, line, 7, 8, tokens);
      } else {
        size_t col = line / 4 * PIO_SUB + line % 4 * 4;
        add_line(acc + col * FEW_TOKENS, stripes, line, 3, 4, tokens);
        add_line(acc + (col + 16) * FEW_TOKENS, stripes, line, 7, 4, tokens);
      }
    }
  }
  const size_t begin = g * w->group;
  const size_t cols = w->cols - begin < w->group ? w->cols - begin : w->group;
  UNROLL for (int t = 0; t < tokens; t++) {
    float least = affine ? v_sum(minima[t]) : 0, *out = y + (size_t)t * y_stride + begin;
    for (size_t c = 0; c < cols; c++) {
      float sum = v_sum(acc[c * FEW_TOKENS + (size_t)t]) + least;
      out[c] = accumulate ? out[c] + sum : sum;
    }
  }
}

void NAME(gemm_transposed)(float *y, size_t y_stride, const struct pio_matrix *w, size_t row_begin,
                           size_t row_end, size_t group_begin, size_t group_end, const float *x,
                           size_t x_stride, size_t tokens, int accumulate) {
  if (tokens > FEW_TOKENS) {
    many_transposed(y, y_stride, w, row_begin, row_end, group_begin, group_end, x, x_stride, tokens,
                    accumulate);
    return;
  }
  for (size_t g = group_begin; g < group_end; g++) {
    if (tokens == 1) few_group(y, y_stride, w, row_begin, row_end, g, x, x_stride, accumulate, 1);
    if (tokens == 2) few_group(y, y_stride, w, row_begin, row_end, g, x, x_stride, accumulate, 2);
    if (tokens == 3) few_group(y, y_stride, w, row_begin, row_end, g, x, x_stride, accumulate, 3);
    if (tokens == 4) few_group(y, y_stride, w, row_begin, row_end, g, x, x_stride, accumulate, 4);
  }
}

// Columns begin... of the rows first...last as f32, (last - first, TILE_COLS), zeros behind.
static void load_tile(float *tile, struct pio_floats w, size_t first, size_t last, size_t begin,
                      size_t cols) {
  for (size_t r = first; r < last; r++) {
    float *out = tile + (r - first) * TILE_COLS;
    size_t at = r * w.stride + begin;
    for (size_t c = cols; c < TILE_COLS; c++) out[c] = 0;
    if (w.kind == PIO_F32) memcpy(out, (const float *)w.data + at, cols * sizeof(float));
    if (w.kind == PIO_F16) NAME(f16_to_f32)(out, (const uint16_t *)w.data + at, cols);
    if (w.kind == PIO_BF16) NAME(bf16_to_f32)(out, (const uint16_t *)w.data + at, cols);
  }
}

void NAME(gemm_transposed_float)(float *y, size_t y_stride, struct pio_floats w, const float *x,
                                 size_t x_stride, size_t x_step, size_t tokens, size_t rows,
                                 size_t cols, int accumulate) {
  float tile[TILE_ROWS * TILE_COLS] __attribute__((aligned(64)));
  for (size_t first = 0; first < rows; first += TILE_ROWS) {
    size_t last = first + TILE_ROWS < rows ? first + TILE_ROWS : rows;
    for (size_t col = 0; col < cols; col += TILE_COLS) {
      size_t count = cols - col < TILE_COLS ? cols - col : TILE_COLS;
      load_tile(tile, w, first, last, col, count);
      add_tiles(y + col, y_stride, x + first * x_step, x_stride, x_step, tile, last - first, count,
                accumulate || first > 0, tokens);
    }
  }
}

#endif
