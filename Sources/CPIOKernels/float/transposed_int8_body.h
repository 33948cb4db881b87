// Products with transposed weights in 8 bits, for any vector of this folder and one of the files
// that define:
//   vi vi_max(vi, vi), int32_t vi_greatest(vi): of signed lanes; vi vi_bits(vf); vi vi_and(vi,
//   int32_t); vi vi_whole(vf): rounded to even; vf v_whole(vi); vi vi_left(vi, int), vi_right(vi,
//   int): shifted; vi vi_quad(vi, int j): lane j of every four lanes, four times; void
//   vi_transpose(vi out[4], const vi in[4]): of every four lanes of 4 bytes, lane j of all into
//     out[j]: its lane i has byte i of the four
//   void v_fold(float out[4], const vf *lanes, int step): as pio_transposed_fold, of the 16 lanes
//   of
//     vectors that lie `step` apart
//   vi vi_dot(vi sum, vi codes, vi values): sum += 4 products of bytes a lane; and SIGNED_CODES,
//   whether codes
//     of 8 bits are then less 128; below 16 they are what they are.
//
// Four row-blocks are a stripe. A lane of four bytes is one row and four columns of a block; with
// the same lanes of four blocks it is transposed to one column and four rows.
#ifndef PIO_TRANSPOSED_INT8_BODY_H
#define PIO_TRANSPOSED_INT8_BODY_H

enum { QUAD = 4, ROW_VECTORS = PIO_ROWS / WIDTH };

// One token's numbers in front of a stripe, times the weights' scales, in 8 bits.
struct derivative {
  vi quads[ROW_VECTORS][QUAD];  // [v][j]: the rows 4 L + j of the blocks, for lanes L of four
  vi start[ROW_VECTORS];        // the sums begin with: what the codes' zeros bring, less
  vf scale;
};

INLINE void quantize_stripe(struct derivative *d, vf y[QUAD][ROW_VECTORS], int32_t zeros) {
  vi all = vi_zero();
  UNROLL for (int b = 0; b < QUAD; b++) {
    UNROLL for (int v = 0; v < ROW_VECTORS; v++) {
      all = vi_max(all, vi_and(vi_bits(y[b][v]), 0x7fffffff));
    }
  }
  pio_step step = pio_transposed_step((uint32_t)vi_greatest(all));
  vf inverse = v_set(step.inverse);
  d->scale = v_set(step.scale);
  UNROLL for (int v = 0; v < ROW_VECTORS; v++) {
    vi packed = vi_left(vi_whole(v_mul(y[3][v], inverse)), 24);
    UNROLL for (int b = 0; b < 3; b++) {
      vi byte = vi_and(vi_whole(v_mul(y[b][v], inverse)), 255);
      packed = vi_add(packed, vi_left(byte, 8 * b));
    }
    d->start[v] = vi_zero();
    UNROLL for (int j = 0; j < QUAD; j++) {
      d->quads[v][j] = vi_quad(packed, j);
      if (zeros) d->start[v] = vi_dot(d->start[v], vi_xor(vi_zero(), zeros), d->quads[v][j]);
    }
    if (zeros) d->start[v] = vi_sub(vi_zero(), d->start[v]);
  }
}

// sums[t] += 4 columns of the stripe.
INLINE void add_columns(vf *sums, const struct derivative *d, const vi codes[QUAD], int v) {
  UNROLL for (int t = 0; t < QUAD; t++) {
    vi sum = d[t].start[v];
    UNROLL for (int j = 0; j < QUAD; j++) sum = vi_dot(sum, codes[j], d[t].quads[v][j]);
    sums[t] = v_fma(v_whole(sum), d[t].scale, sums[t]);
  }
}

enum { STRIPE_ROWS = QUAD * PIO_ROWS };

// x of one token for a stripe that begins at `row`, 0 outside of [row_begin, row_end).
static void copy_rows(float out[STRIPE_ROWS], const float *x, size_t row, size_t row_begin,
                      size_t row_end) {
  for (size_t r = 0; r < STRIPE_ROWS; r++) {
    out[r] = row + r >= row_begin && row + r < row_end ? x[row + r - row_begin] : 0;
  }
}

INLINE void load_plane(vf out[ROW_VECTORS], const uint8_t *plane) {
  uint16_t bits[PIO_ROWS];
  memcpy(bits, plane, sizeof bits);
  UNROLL for (int v = 0; v < ROW_VECTORS; v++) out[v] = v_load_f16(bits + v * WIDTH);
}

// All codes of a stripe: sums[4 columns][v][t] += ...
INLINE void add_stripe(vf *sums, const struct derivative *d, const uint8_t *const codes[QUAD],
                       size_t ahead, size_t lines, uint32_t quant) {
  for (size_t line = 0; line < lines; line++) {
    UNROLL for (int b = 0; b < QUAD; b++) __builtin_prefetch(codes[b] + ahead + 64 * line, 0, 3);
    UNROLL for (int v = 0; v < ROW_VECTORS; v++) {
      vi blocks[QUAD], rows[QUAD], high[QUAD];
      UNROLL for (int b = 0; b < QUAD; b++) {
        blocks[b] = vi_load(codes[b] + 64 * line + 4 * (size_t)(v * WIDTH));
      }
      vi_transpose(rows, blocks);
      size_t slot = quant == PIO_INT8 ? line : line / 4 * 8 + line % 4;
      vf *at = sums + (slot * ROW_VECTORS + (size_t)v) * QUAD;
      UNROLL for (int j = 0; j < QUAD; j++) {
        if (quant == PIO_INT8) {
          if (SIGNED_CODES) rows[j] = vi_xor(rows[j], (int32_t)0x80808080);
        } else {
          high[j] = vi_and(vi_right(rows[j], 4), 0x0f0f0f0f);
          rows[j] = vi_and(rows[j], 0x0f0f0f0f);
        }
      }
      add_columns(at, d, rows, v);
      if (quant != PIO_INT8) add_columns(at + 4 * ROW_VECTORS * QUAD, d, high, v);
    }
  }
}

// What of one token's group is summed up in sums[...][v][t], to y.
INLINE void fold(float *y, const vf *sums, const vf minima[ROW_VECTORS], size_t cols,
                 int accumulate) {
  float parts[QUAD];
  v_fold(parts, minima, 1);
  const float least = (parts[0] + parts[1]) + (parts[2] + parts[3]);
  for (size_t c = 0; c < cols; c += QUAD, sums += ROW_VECTORS * QUAD) {
    v_fold(parts, sums, QUAD);
    const size_t count = cols - c < QUAD ? cols - c : QUAD;
    float *out = y + c;
    UNROLL for (size_t i = 0; i < QUAD; i++) {
      if (i >= count) break;
      const float sum = parts[i] + least;
      out[i] = accumulate ? out[i] + sum : sum;
    }
  }
}

enum { PIO_FEW_BLOCKS = 32 };  // of so many row-blocks a cache is thought to hold all
enum { SPAN = 128 };  // columns that are done at a time: a group, or as many as lie side by side

// Up to four tokens x a span of columns.
struct span {
  float *y;
  size_t y_stride;
  const struct pio_matrix *w;
  size_t row_begin, row_end;
  size_t group, count;  // the first group, and how many
  const float *x;
  size_t x_stride, tokens;
  int accumulate;
};

// The sums of a span: of 4 columns, [v][t]; of an affine group, [t][v].
struct sums {
  vf columns[SPAN * ROW_VECTORS];
  vf minima[SPAN / PIO_SUB][QUAD][ROW_VECTORS];
};

// One stripe of one group, whose codes begin at blocks[0...3]; its tokens' numbers at x.
INLINE void add_group(struct sums *sums, size_t at, const uint8_t *const blocks[QUAD],
                      const struct pio_matrix *w, const float *x, size_t x_stride, size_t ahead,
                      uint32_t quant) {
  const int32_t zeros = quant != PIO_INT8 ? 0x08080808 : SIGNED_CODES ? 0 : (int32_t)0x80808080;
  const size_t code_bytes = pio_codes_bytes(quant, w->group);
  vf scales[QUAD][ROW_VECTORS], bases[QUAD][ROW_VECTORS];
  UNROLL for (int b = 0; b < QUAD; b++) {
    load_plane(scales[b], blocks[b] + code_bytes);
    if (quant != PIO_INT4_AFFINE) continue;
    load_plane(bases[b], blocks[b] + code_bytes + 2 * PIO_ROWS);
    UNROLL for (int v = 0; v < ROW_VECTORS; v++) {
      bases[b][v] = v_fma(v_set(8), scales[b][v], bases[b][v]);
    }
  }
  struct derivative d[QUAD];
  UNROLL for (int t = 0; t < QUAD; t++) {
    vf values[QUAD][ROW_VECTORS];
    UNROLL for (int b = 0; b < QUAD; b++) {
      UNROLL for (int v = 0; v < ROW_VECTORS; v++) {
        values[b][v] = v_load(x + (size_t)t * x_stride + b * PIO_ROWS + v * WIDTH);
        if (quant == PIO_INT4_AFFINE) {
          vf *sum = &sums->minima[at][t][v];
          *sum = v_fma(values[b][v], bases[b][v], *sum);
        }
        values[b][v] = v_mul(values[b][v], scales[b][v]);
      }
    }
    quantize_stripe(&d[t], values, zeros);
  }
  add_stripe(sums->columns + at * w->group * ROW_VECTORS, d, blocks, ahead, code_bytes / 64, quant);
}

// `quant` is a constant where this is inlined. Fewer tokens are four, of which the last are zeros:
// the usual number is four, and the code is large.
INLINE void span_transposed(const struct span *p, uint32_t quant) {
  const struct pio_matrix *w = p->w;
  struct sums sums;
  for (size_t i = 0; i < p->count * w->group * ROW_VECTORS; i++) sums.columns[i] = v_set(0);
  for (size_t g = 0; g < p->count; g++) {
    UNROLL for (int t = 0; t < QUAD; t++) {
      UNROLL for (int v = 0; v < ROW_VECTORS; v++) sums.minima[g][t][v] = v_set(0);
    }
  }
  const size_t block_bytes =
      pio_codes_bytes(quant, w->group) + (quant == PIO_INT4_AFFINE ? 4 : 2) * PIO_ROWS;
  const size_t row_bytes = pio_groups(w->cols, w->group) * block_bytes;
  const size_t first = p->row_begin / PIO_ROWS, last = (p->row_end + PIO_ROWS - 1) / PIO_ROWS;
  // Rows that a cache holds come from there: what is asked for is what follows them, in memory.
  const size_t ahead = (last - first <= PIO_FEW_BLOCKS ? last - first : QUAD) * row_bytes;
  for (size_t block = first; block < last; block += QUAD) {
    const size_t row = block * PIO_ROWS;
    float edge[QUAD * STRIPE_ROWS];
    const float *x = edge;
    size_t x_stride = STRIPE_ROWS;
    if (p->tokens < QUAD || row < p->row_begin || row + STRIPE_ROWS > p->row_end) {
      for (size_t t = 0; t < QUAD; t++) {
        float *out = edge + t * STRIPE_ROWS;
        if (t < p->tokens) {
          copy_rows(out, p->x + t * p->x_stride, row, p->row_begin, p->row_end);
        } else {
          memset(out, 0, STRIPE_ROWS * sizeof(float));
        }
      }
    } else {
      x = p->x + (row - p->row_begin);
      x_stride = p->x_stride;
    }
    const uint8_t *blocks[QUAD];
    for (size_t b = 0; b < QUAD; b++) {
      // Past the last block: the last one again, times zero.
      size_t at = block + b < last ? block + b : last - 1;
      blocks[b] = w->blocks + at * row_bytes + p->group * block_bytes;
    }
    for (size_t g = 0; g < p->count; g++) {
      add_group(&sums, g, blocks, w, x, x_stride, ahead, quant);
      for (size_t b = 0; b < QUAD; b++) blocks[b] += block_bytes;
    }
  }
  for (size_t g = 0; g < p->count; g++) {
    const size_t begin = (p->group + g) * w->group;
    const size_t cols = w->cols - begin < w->group ? w->cols - begin : w->group;
    for (size_t t = 0; t < p->tokens; t++) {
      fold(p->y + t * p->y_stride + begin, sums.columns + g * w->group * ROW_VECTORS + t,
           sums.minima[g][t], cols, p->accumulate);
    }
  }
}

static void span_int8(const struct span *p) {
  span_transposed(p, PIO_INT8);
}
static void span_int4(const struct span *p) {
  span_transposed(p, PIO_INT4);
}
static void span_int4_affine(const struct span *p) {
  span_transposed(p, PIO_INT4_AFFINE);
}

void NAME(gemm_transposed_int8)(float *y, size_t y_stride, const struct pio_matrix *w,
                                size_t row_begin, size_t row_end, size_t group_begin,
                                size_t group_end, const float *x, size_t x_stride, size_t tokens,
                                int accumulate) {
  const size_t step = SPAN / w->group;
  for (size_t g = group_begin; g < group_end; g += step) {
    for (size_t t = 0; t < tokens; t += QUAD) {
      const struct span span = {
          .y = y + t * y_stride,
          .y_stride = y_stride,
          .w = w,
          .row_begin = row_begin,
          .row_end = row_end,
          .group = g,
          .count = group_end - g < step ? group_end - g : step,
          .x = x + t * x_stride,
          .x_stride = x_stride,
          .tokens = tokens - t < QUAD ? tokens - t : QUAD,
          .accumulate = accumulate,
      };
      if (w->quant == PIO_INT8) {
        span_int8(&span);
      } else if (w->quant == PIO_INT4) {
        span_int4(&span);
      } else {
        span_int4_affine(&span);
      }
    }
  }
}

#endif
