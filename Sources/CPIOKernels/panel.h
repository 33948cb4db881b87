// The loops around a tile of tokens x one block of rows, the same in every integer product.
#ifndef PIO_PANEL_H
#define PIO_PANEL_H

#include "internal.h"

// Weights of so many bytes are kept in the second-level cache while all tokens pass over them.
enum { PIO_PANEL_BYTES = 384 * 1024 };

// What a tile needs to know: `tokens` tokens from `x` on, the blocks of one row-block.
struct pio_tile {
  const uint8_t *blocks;  // of this row-block, groups ascending
  const int8_t *values;   // (tokens, groups * group)
  const float *scales;    // (tokens, groups)
  const int32_t *sums;    // (tokens, groups)
  size_t groups, group;
  float *y;  // (tokens, 16), stride y_stride
  size_t y_stride;
  size_t rows;        // of these 16 to write
  const float *bias;  // 16, or NULL
  int accumulate;
};

// Calls TILE(tile, count) for tiles of at most MAX tokens and every row-block.
#define PIO_FOR_TILES(TILE, MAX)                                                               \
  do {                                                                                         \
    size_t groups = pio_groups(w->cols, w->group), row_length = groups * w->group;             \
    size_t row_bytes = groups * pio_block_bytes(w->quant, w->group);                           \
    size_t panel = tokens > (MAX) ? PIO_PANEL_BYTES / row_bytes + 1 : block_end - block_begin; \
    for (size_t first = block_begin; first < block_end; first += panel) {                      \
      size_t last = first + panel < block_end ? first + panel : block_end;                     \
      for (size_t t = 0; t < tokens; t += (MAX)) {                                             \
        for (size_t b = first; b < last; b++) {                                                \
          struct pio_tile tile = {                                                             \
              .blocks = w->blocks + b * row_bytes,                                             \
              .values = x.values + t * row_length,                                             \
              .scales = x.scales + t * groups,                                                 \
              .sums = x.sums + t * groups,                                                     \
              .groups = groups,                                                                \
              .group = w->group,                                                               \
              .y = y + t * y_stride + b * PIO_ROWS,                                            \
              .y_stride = y_stride,                                                            \
              .rows = w->rows - b * PIO_ROWS < PIO_ROWS ? w->rows - b * PIO_ROWS : PIO_ROWS,   \
              .bias = bias ? bias + b * PIO_ROWS : NULL,                                       \
              .accumulate = accumulate,                                                        \
          };                                                                                   \
          TILE(&tile, tokens - t < (MAX) ? tokens - t : (MAX));                                \
        }                                                                                      \
      }                                                                                        \
    }                                                                                          \
  } while (0)

// Writes 16 sums of token t of a tile.
static inline void pio_finish_tile(const struct pio_tile *p, size_t t, const float *sums) {
  float *y = p->y + t * p->y_stride;
  for (size_t r = 0; r < p->rows; r++) {
    float sum = p->bias ? sums[r] + p->bias[r] : sums[r];
    y[r] = p->accumulate ? y[r] + sum : sum;
  }
}

// `tiles[quant - PIO_INT8][tokens - 1]`, made from an inlined TILE(tile, tokens, quant).
#define PIO_TILE_OF(TILE, tokens, quant)                          \
  static void tile_##tokens##_##quant(const struct pio_tile *p) { \
    TILE(p, tokens, quant);                                       \
  }
#define PIO_TILES4(TILE, quant) \
  PIO_TILE_OF(TILE, 1, quant)   \
  PIO_TILE_OF(TILE, 2, quant) PIO_TILE_OF(TILE, 3, quant) PIO_TILE_OF(TILE, 4, quant)
#define PIO_TILES8(TILE, quant) \
  PIO_TILES4(TILE, quant)       \
  PIO_TILE_OF(TILE, 5, quant)   \
  PIO_TILE_OF(TILE, 6, quant) PIO_TILE_OF(TILE, 7, quant) PIO_TILE_OF(TILE, 8, quant)
#define PIO_NAMES4(quant) tile_1_##quant, tile_2_##quant, tile_3_##quant, tile_4_##quant
#define PIO_NAMES8(quant) \
  PIO_NAMES4(quant), tile_5_##quant, tile_6_##quant, tile_7_##quant, tile_8_##quant
#define PIO_TILE_TABLE(TILE, count)                                                            \
  PIO_TILES##count(TILE, PIO_INT8) PIO_TILES##count(TILE, PIO_INT4) PIO_TILES##count(          \
      TILE, PIO_INT4_AFFINE) static void (*const tiles[3][count])(const struct pio_tile *) = { \
      {PIO_NAMES##count(PIO_INT8)},                                                            \
      {PIO_NAMES##count(PIO_INT4)},                                                            \
      {PIO_NAMES##count(PIO_INT4_AFFINE)}};

#endif
