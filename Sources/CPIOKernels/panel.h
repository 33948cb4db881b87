// The loops around a tile of tokens x one block of rows, the same in every integer product.
#ifndef PIO_PANEL_H
#define PIO_PANEL_H

#include "internal.h"

// What stays in which cache: of weights, the panel that all tokens pass over, in the second level;
// of a tile's tokens, the columns that a whole panel passes over, in the first. One token reads the
// weights in one go: PIO_STARTS groups.
enum {
  PIO_PANEL_BYTES = 384 * 1024,
  PIO_WIDE_PANEL_BYTES = 768 * 1024,  // cores with wide tiles have the larger caches
  PIO_PANEL_BLOCKS = 16,
  PIO_CHUNK_COLS = 2048
};
enum { PIO_STARTS = 768, PIO_MOST_TOKENS = 8 };

// What a tile needs to know: a few tokens x one row-block, or two that follow each other, x the
// groups [0, count) from some group on, whose sums go on from where the groups before them stopped.
struct pio_tile {
  const uint8_t *blocks;  // of this row-block, from the first group on, ascending
  const int8_t *values;   // (tokens, groups * group), from the first group on
  const int8_t *pairs;    // (count * group / 8, pairs of tokens, 2, 8): the same, where asked for
  const float *scales;    // (count, tokens), spread as the product says: of the values
  const int32_t *starts;  // the same: start - zero * sum of the values
  const float *shifts;    // affine, the same: scale * sum of the values
  size_t groups, group;   // groups of a whole row: the stride
  size_t count;           // groups of this tile
  float *acc;             // (row-blocks, PIO_MOST_TOKENS, 16), where the groups are not all
  int ahead;              // whether the weights may come from memory
  int first, last;        // whether these are the first, the last groups
  float *y;               // (tokens, rows), stride y_stride
  size_t y_stride;
  size_t rows;        // to write, of 16 or 32
  const float *bias;  // one a row, or NULL
  int accumulate;
};

// x86: asks for what the next groups need. The hardware stops its own reading ahead at 4 KiB of the
// address, whatever the page of the system is, and too few groups fit into the reorder buffer to
// look over that border. `all`: all lines of a group, 4 KiB on, which doubles the speed of 4 and 8
// tokens from memory and costs nothing measurable where weights are in a cache. Else, for one or
// two tokens, which leave more room in the buffer: the beginning of the page after the next, a line
// with every group, from where the hardware goes on; what serves Zen 4 best, while Intel's cores
// read 1.2 to 1.5 times as much where they are asked for all lines. One that is not mapped costs
// nothing.
static inline void pio_look_ahead(const uint8_t *block, size_t block_bytes, int all) {
  if (all) {
    for (size_t i = 0; i < block_bytes; i += 64) __builtin_prefetch(block + 4096 + i);
    return;
  }
  const uintptr_t at = (uintptr_t)block, in_page = at % 4096;
  __builtin_prefetch((const void *)(at - in_page + 2 * 4096 + in_page / 4 / 64 * 64), 0, 2);
}

typedef void pio_run_tile(const struct pio_tile *tile);

// How the numbers of a group and token lie: alone; starts as four in a row, the others alone; or
// with those of the next token as {a, b, a, b}, an odd last one's partner being 0.
enum pio_spread { PIO_ALONE, PIO_FOURFOLD, PIO_PAIRED };

// One product, and how its tiles are run: tiles[tokens - 1] for up to `most` tokens.
struct pio_product {
  float *y;
  size_t y_stride;
  const struct pio_matrix *w;
  struct pio_activations x;
  const float *bias;
  int accumulate;
  pio_run_tile *const *tiles;
  pio_run_tile *const *wide;  // the same for two row-blocks; or NULL
  size_t panel_bytes;
  size_t groups, block_bytes;
  int pairs;  // whether tiles read the values in pairs of tokens
  enum pio_spread spread;
  int32_t zero, start;  // a group's sum begins with start - zero * (sum of its values)
};

// What a tile needs of each token and group beside the values, groups outermost. Spread by fours,
// tokens in pairs have at most 3 / 2 PIO_CHUNK_COLS columns.
struct pio_token_groups {
  float scales[2 * PIO_STARTS], shifts[2 * PIO_STARTS];
  int32_t starts[4 * PIO_STARTS];
};

static inline void pio_fill_group(const struct pio_product *p, float scale, int32_t sum, size_t g,
                                  size_t i, size_t tokens, struct pio_token_groups *out) {
  const int32_t start = p->start - p->zero * sum;
  const float shift = scale * (float)sum;
  if (p->spread == PIO_PAIRED) {
    const size_t at = 4 * (g * ((tokens + 1) / 2) + i / 2) + i % 2;
    out->scales[at] = out->scales[at + 2] = scale;
    out->shifts[at] = out->shifts[at + 2] = shift;
    out->starts[at] = out->starts[at + 2] = start;
    return;
  }
  const size_t at = g * tokens + i;
  out->scales[at] = scale;
  out->shifts[at] = shift;
  if (p->spread == PIO_ALONE) {
    out->starts[at] = start;
  } else {
    for (size_t lane = 0; lane < 4; lane++) out->starts[4 * at + lane] = start;
  }
}

static inline void pio_fill_groups(const struct pio_product *p, size_t t, size_t tokens,
                                   size_t first, size_t count, struct pio_token_groups *out) {
  const int affine = p->w->quant == PIO_INT4_AFFINE;
  for (size_t i = 0; i < tokens; i++) {
    const int32_t *sums = p->x.sums + (t + i) * p->groups + first;
    const float *scales = p->x.scales + (t + i) * p->groups + first;
    if (p->spread != PIO_ALONE) {
      for (size_t g = 0; g < count; g++) {
        pio_fill_group(p, scales[g], sums[g], g, i, tokens, out);
      }
      continue;
    }
    // This runs for every tile: what no kind reads is not written.
    for (size_t g = 0; g < count; g++) out->scales[g * tokens + i] = scales[g];
    if (affine) {
      for (size_t g = 0; g < count; g++) out->shifts[g * tokens + i] = scales[g] * (float)sums[g];
    } else {
      for (size_t g = 0; g < count; g++) out->starts[g * tokens + i] = p->start - p->zero * sums[g];
    }
  }
  if (p->spread != PIO_PAIRED || tokens % 2 == 0) return;
  for (size_t g = 0; g < count; g++) pio_fill_group(p, 0, 0, g, tokens, tokens, out);
}

enum { PIO_PAIR_BYTES = PIO_MOST_TOKENS * PIO_CHUNK_COLS * 3 / 2 };

// Columns of `tokens` tokens from `values` on, 8 of each of two tokens side by side; an odd last
// token is its own partner.
static inline void pio_pair_values(int8_t *restrict out, const int8_t *restrict values, size_t row,
                                   size_t tokens, size_t cols) {
  for (size_t t = 0; t < tokens; t += 2) {
    const int8_t *first = values + t * row, *second = t + 1 < tokens ? first + row : first;
    int8_t *to = out + 8 * t;
    for (size_t c = 0; c < cols; c += 8, to += 16 * ((tokens + 1) / 2)) {
      memcpy(to, first + c, 8);
      memcpy(to + 8, second + c, 8);
    }
  }
}

// How many groups are done at a time: all, or about PIO_CHUNK_COLS columns.
static inline size_t pio_chunk_groups(const struct pio_product *p, size_t tokens) {
  const size_t step = tokens > 2 || p->pairs ? PIO_CHUNK_COLS / p->w->group : PIO_STARTS / tokens;
  return p->groups <= step * 3 / 2 && p->groups * tokens <= PIO_STARTS ? p->groups : step;
}

// `count` tokens from `t` on x row-blocks [first, last), a chunk of columns at a time.
static inline void pio_run_tiles(const struct pio_product *p, size_t t, size_t count, size_t first,
                                 size_t last, float *acc) {
  const size_t group = p->w->group, groups = p->groups, chunk = pio_chunk_groups(p, count);
  struct pio_token_groups shared;
  int8_t pairs[PIO_PAIR_BYTES] __attribute__((aligned(16)));
  for (size_t g = 0; g < groups; g += chunk) {
    const size_t here = groups - g < chunk ? groups - g : chunk;
    pio_fill_groups(p, t, count, g, here, &shared);
    if (p->pairs) {
      pio_pair_values(pairs, p->x.values + (t * groups + g) * group, groups * group, count,
                      here * group);
    }
    for (size_t b = first, step; b < last; b += step) {
      step = p->wide && b + 2 <= last ? 2 : 1;
      const size_t row = b * PIO_ROWS, rows = p->w->rows - row;
      struct pio_tile tile = {
          .blocks = p->w->blocks + (b * groups + g) * p->block_bytes,
          .values = p->x.values + (t * groups + g) * group,
          .pairs = pairs,
          .scales = shared.scales,
          .starts = shared.starts,
          .shifts = shared.shifts,
          .groups = groups,
          .group = group,
          .count = here,
          .acc = acc + (b - first) * PIO_MOST_TOKENS * PIO_ROWS,
          .ahead = t == 0,
          .first = g == 0,
          .last = g + chunk >= groups,
          .y = p->y + t * p->y_stride + row,
          .y_stride = p->y_stride,
          .rows = rows < step * PIO_ROWS ? rows : step * PIO_ROWS,
          .bias = p->bias ? p->bias + row : NULL,
          .accumulate = p->accumulate,
      };
      (step == 2 ? p->wide : p->tiles)[count - 1](&tile);
    }
  }
}

// All tokens x row-blocks [begin, end), in tiles of nearly the same number of tokens.
static inline void pio_run_product(const struct pio_product *p, size_t tokens, size_t most,
                                   size_t begin, size_t end) {
  float acc[PIO_PANEL_BLOCKS * PIO_MOST_TOKENS * PIO_ROWS] __attribute__((aligned(64)));
  size_t panel = p->panel_bytes / (p->groups * p->block_bytes) + 1;
  if (panel > PIO_PANEL_BLOCKS || tokens <= most) panel = PIO_PANEL_BLOCKS;
  if (p->wide && panel > 1) panel -= panel % 2;  // an odd one's last tile is narrow
  for (size_t first = begin; first < end; first += panel) {
    size_t last = first + panel < end ? first + panel : end;
    for (size_t t = 0, tiles = (tokens + most - 1) / most; t < tokens; tiles--) {
      size_t count = (tokens - t + tiles - 1) / tiles;
      pio_run_tiles(p, t, count, first, last, acc);
      t += count;
    }
  }
}

// The whole of a `pio_gemm` whose arguments have these names.
#define PIO_RUN_PRODUCT(TILES, WIDE, PANEL, MOST, PAIRS, SPREAD, ZERO, START) \
  do {                                                                        \
    struct pio_product product = {                                            \
        .y = y,                                                               \
        .y_stride = y_stride,                                                 \
        .w = w,                                                               \
        .x = x,                                                               \
        .bias = bias,                                                         \
        .accumulate = accumulate,                                             \
        .tiles = TILES,                                                       \
        .wide = WIDE,                                                         \
        .panel_bytes = PANEL,                                                 \
        .groups = pio_groups(w->cols, w->group),                              \
        .block_bytes = pio_block_bytes(w->quant, w->group),                   \
        .pairs = PAIRS,                                                       \
        .spread = SPREAD,                                                     \
        .zero = ZERO,                                                         \
        .start = START,                                                       \
    };                                                                        \
    pio_run_product(&product, tokens, MOST, block_begin, block_end);          \
  } while (0)
#define PIO_RUN_GEMM_AS(TILES, MOST, PAIRS, SPREAD, ZERO, START) \
  PIO_RUN_PRODUCT(TILES, NULL, PIO_PANEL_BYTES, MOST, PAIRS, SPREAD, ZERO, START)
#define PIO_RUN_GEMM(TILES, MOST, PAIRS) \
  PIO_RUN_GEMM_AS(TILES, MOST, PAIRS, PIO_ALONE, pio_zero(w->quant), 0)
#define PIO_RUN_WIDE_GEMM(TILES, WIDE, MOST) \
  PIO_RUN_PRODUCT(TILES, WIDE, PIO_WIDE_PANEL_BYTES, MOST, 0, PIO_ALONE, pio_zero(w->quant), 0)

// Writes what token t of a tile has summed up in p->acc.
static inline void pio_finish_tile(const struct pio_tile *p, size_t t) {
  float *y = p->y + t * p->y_stride, *acc = p->acc + t * PIO_ROWS;
  if (p->rows == PIO_ROWS) {
    if (p->bias) {
      for (size_t r = 0; r < PIO_ROWS; r++) acc[r] += p->bias[r];
    }
    for (size_t r = 0; r < PIO_ROWS; r++) y[r] = p->accumulate ? y[r] + acc[r] : acc[r];
    return;
  }
  for (size_t r = 0; r < p->rows; r++) {
    float sum = p->bias ? acc[r] + p->bias[r] : acc[r];
    y[r] = p->accumulate ? y[r] + sum : sum;
  }
}

// `tile_table[quant - PIO_INT8][tokens - 1]`, made from an inlined tile(tile, tokens, quant).
#define PIO_TILE_OF(TILE, tokens, quant)                            \
  static void TILE##_##tokens##_##quant(const struct pio_tile *p) { \
    TILE(p, tokens, quant);                                         \
  }
#define PIO_TILES4(TILE, quant) \
  PIO_TILE_OF(TILE, 1, quant)   \
  PIO_TILE_OF(TILE, 2, quant) PIO_TILE_OF(TILE, 3, quant) PIO_TILE_OF(TILE, 4, quant)
#define PIO_TILES7(TILE, quant) \
  PIO_TILES4(TILE, quant)       \
  PIO_TILE_OF(TILE, 5, quant) PIO_TILE_OF(TILE, 6, quant) PIO_TILE_OF(TILE, 7, quant)
#define PIO_TILES8(TILE, quant) PIO_TILES7(TILE, quant) PIO_TILE_OF(TILE, 8, quant)
#define PIO_NAMES4(TILE, quant) \
  TILE##_1_##quant, TILE##_2_##quant, TILE##_3_##quant, TILE##_4_##quant
#define PIO_NAMES7(TILE, quant) \
  PIO_NAMES4(TILE, quant), TILE##_5_##quant, TILE##_6_##quant, TILE##_7_##quant
#define PIO_NAMES8(TILE, quant) PIO_NAMES7(TILE, quant), TILE##_8_##quant
#define PIO_TILE_TABLE(TILE, count)                                                   \
  PIO_TILES##count(TILE, PIO_INT8) PIO_TILES##count(TILE, PIO_INT4) PIO_TILES##count( \
      TILE, PIO_INT4_AFFINE) static pio_run_tile *const TILE##_table[3][count] = {    \
      {PIO_NAMES##count(TILE, PIO_INT8)},                                             \
      {PIO_NAMES##count(TILE, PIO_INT4)},                                             \
      {PIO_NAMES##count(TILE, PIO_INT4_AFFINE)}};

#endif
