// Speed of the kernels beside what this machine can do. tools/measure/kernels builds and runs it.
#include <math.h>
#include <unistd.h>

#include "CPIOKernels.h"
#include "CPIOLimits.h"
#include "harness.h"

static const struct pio_kernels *k;
static int int8_peak, f32_peak, read_peak;

static void *bytes(size_t count) {
  uint8_t *p = aligned_alloc(64, (count + 63) / 64 * 64);
  if (!p) exit(1);
  for (size_t i = 0; i < count; i++) p[i] = (uint8_t)(i * 2654435761u >> 13);
  return p;
}

static float *floats(size_t count) {
  float *p = aligned_alloc(64, (count * 4 + 63) / 64 * 64);
  if (!p) exit(1);
  for (size_t i = 0; i < count; i++) p[i] = (float)(int)(i * 2654435761u % 20011) / 20011 - 0.5f;
  return p;
}

static const struct pio_limit_loops *limits;

enum { ROUNDS = 1 << 16 };
static uint64_t macs_a_run, flops_a_run;

static void run_int8_peak(const void *context, unsigned thread, unsigned threads) {
  limits->int8_macs(ROUNDS);
  (void)context, (void)thread, (void)threads;
}

static void run_f32_peak(const void *context, unsigned thread, unsigned threads) {
  limits->f32_flops(ROUNDS);
  (void)context, (void)thread, (void)threads;
}

// The peaks are the machine's, whatever kernels are measured.
static void add_peaks(void) {
  limits = pio_limit_loops_for(pio_kernels_best()->isa);
  macs_a_run = limits->int8_macs(ROUNDS);
  flops_a_run = limits->f32_flops(ROUNDS);
  int8_peak =
      add_case("peak: int8", run_int8_peak, NULL, (double)macs_a_run * thread_count, "GMAC/s", -1);
  f32_peak =
      add_case("peak: f32", run_f32_peak, NULL, (double)flops_a_run * thread_count, "GFLOP/s", -1);
}

struct span {
  const uint8_t *data;
  size_t bytes;
};

// Each thread reads its own part, by the faster of the two loops.
static uint64_t (*read_loop)(const void *, size_t);

static void read_all(const void *context, unsigned thread, unsigned threads) {
  const struct span *s = context;
  size_t part = s->bytes / threads / 4096 * 4096;
  volatile uint64_t sink = read_loop(s->data + part * thread, part);
  (void)sink;
}

static double fastest(uint64_t (*loop)(const void *, size_t), const struct span *s) {
  double best = INFINITY;
  for (int i = 0; i < 3; i++) {
    double start = now();
    volatile uint64_t sink = loop(s->data, s->bytes);
    (void)sink;
    best = fmin(best, now() - start);
  }
  return best;
}

static void add_reads(void) {
  static struct span s;
  s.bytes = 256 << 20;
  s.data = bytes(s.bytes);
  read_loop = limits->read;
  if (limits->read_ahead && fastest(limits->read_ahead, &s) < fastest(limits->read, &s)) {
    read_loop = limits->read_ahead;
  }
  read_peak = add_case("peak: reads of 256 MiB", read_all, &s, (double)s.bytes, "GB/s", -1);
}

struct product {
  struct pio_matrix w;
  struct pio_activations x;
  const float *floats;
  float *y;
  size_t tokens;
};

// Tasks of 16 blocks, as the runtime hands them out.
static void run_product(const void *context, unsigned thread, unsigned threads) {
  const struct product *p = context;
  size_t blocks = (p->w.rows + 15) / 16, part = 16;
  for (size_t b = thread * part; b < blocks; b += threads * part) {
    size_t end = b + part < blocks ? b + part : blocks;
    k->gemm(p->y, p->w.rows, &p->w, p->x, p->tokens, b, end, NULL, 0);
  }
}

// Weights with tame scales.
static struct pio_matrix matrix(size_t rows, size_t cols, uint32_t group, uint32_t quant) {
  size_t blocks = rows / 16 * (cols / group), size = pio_block_bytes(quant, group);
  size_t codes = group * (quant == PIO_INT8 ? 16 : 8);
  uint8_t *data = bytes(blocks * size);
  for (size_t b = 0; b < blocks; b++) {
    for (size_t i = codes; i < size; i += 2) memcpy(data + b * size + i, &(uint16_t){0x2000}, 2);
  }
  return (struct pio_matrix){data, rows, cols, group, quant};
}

static struct product *product(size_t rows, size_t cols, uint32_t group, uint32_t quant,
                               size_t tokens) {
  struct product *p = malloc(sizeof *p);
  float *x = floats(tokens * cols);
  *p = (struct product){.w = matrix(rows, cols, group, quant), .tokens = tokens};
  p->x = (struct pio_activations){bytes(tokens * cols), floats(tokens * cols / group),
                                  bytes(tokens * cols / group * 4)};
  p->y = floats(tokens * rows);
  p->floats = x;
  k->quantize(p->x, x, cols, tokens, cols, group);
  return p;
}

static const struct {
  uint32_t quant;
  const char *name;
} kinds[] = {{PIO_INT4, "int4"}, {PIO_INT4_AFFINE, "int4 affine"}, {PIO_INT8, "int8"}};

static void add_gemm(size_t rows, size_t cols, size_t tokens, uint32_t group, int kind) {
  char name[72];
  struct product *p = product(rows, cols, group, kinds[kind].quant, tokens);
  snprintf(name, sizeof name, "gemm %s g%u %zu x %zu, %zu tokens", kinds[kind].name, group, rows,
           cols, tokens);
  add_case(name, run_product, p, (double)(rows * cols * tokens), "GMAC/s", int8_peak);
}

static void add_gemms(void) {
  const size_t counts[] = {2, 8, 32, 128, 640};
  for (int kind = 0; kind < 3; kind++) {
    for (uint32_t group = 32; group <= 128; group *= 2) add_gemm(4096, 4096, 512, group, kind);
  }
  for (int kind = 0; kind < 3; kind += 2) {
    for (size_t i = 0; i < 5; i++) add_gemm(2048, 2048, counts[i], 32, kind);
    add_gemm(2048, 5632, 640, 32, kind);
    add_gemm(4096, 1024, 577, 32, kind);
  }
}

// A few tokens, weights far larger than the caches.
static void add_few(size_t tokens, uint32_t quant, const char *what) {
  char name[72];
  size_t rows = 32000, cols = 2048;
  double size = (double)(rows / 16 * (cols / 32) * pio_block_bytes(quant, 32));
  snprintf(name, sizeof name, "%zu tokens %s g32 from memory", tokens, what);
  add_case(name, run_product, product(rows, cols, 32, quant, tokens), size, "GB/s", read_peak);
}

// Decoding: one token.
static void add_gemvs(void) {
  for (size_t tokens = 2; tokens <= 8; tokens += tokens == 4 ? 4 : 1) {
    add_few(tokens, PIO_INT4, "int4");
    add_few(tokens, PIO_INT8, "int8");
  }
  for (int kind = 0; kind < 3; kind++) {
    for (uint32_t group = 32; group <= 128; group *= 2) {
      char name[72];
      size_t rows = 12288, cols = 12288;
      uint32_t quant = kinds[kind].quant;
      struct product *p = product(rows, cols, group, quant, 1);
      double size = (double)(rows / 16 * (cols / group) * pio_block_bytes(quant, group));
      snprintf(name, sizeof name, "gemv %s g%u from memory", kinds[kind].name, group);
      add_case(name, run_product, p, size, "GB/s", read_peak);
    }
  }
}

static void run_float(const void *context, unsigned thread, unsigned threads) {
  const struct product *p = context;
  size_t rows = p->w.rows, cols = p->w.cols, part = rows / threads;
  k->gemm_f32(p->y + thread * part, rows,
              (const float *)(const void *)p->w.blocks + thread * part * cols, cols, p->floats,
              cols, p->tokens, part, cols, NULL, 0);
}

static void add_floats(void) {
  for (size_t tokens = 1; tokens <= 256; tokens *= 16) {
    char name[72];
    size_t rows = 1024, cols = 1024;
    struct product *p = malloc(sizeof *p);
    *p = (struct product){
        .tokens = tokens, .floats = floats(tokens * cols), .y = floats(tokens * rows)};
    p->w = (struct pio_matrix){
        .blocks = (const void *)floats(rows * cols), .rows = rows, .cols = cols};
    snprintf(name, sizeof name, "gemm_f32 1024 x 1024, %zu tokens", tokens);
    add_case(name, run_float, p, 2.0 * (double)(tokens * rows * cols), "GFLOP/s", f32_peak);
  }
}

struct back {
  struct pio_matrix w;
  const float *x;
  float *y;
  size_t tokens;
  pio_gemm_transposed *kernel;
};

// A group of columns is a task, as in the runtime.
static void run_back(const void *context, unsigned thread, unsigned threads) {
  const struct back *b = context;
  size_t groups = (b->w.cols + b->w.group - 1) / b->w.group;
  for (size_t g = 4 * thread; g < groups; g += 4 * threads) {
    b->kernel(b->y, b->w.cols, &b->w, 0, b->w.rows, g, g + 4, b->x, b->w.rows, b->tokens, 0);
  }
}

static void add_back(const char *what, size_t rows, size_t cols, size_t tokens) {
  for (int kind = 0; kind < 3; kind++) {
    for (int small = 0; small < 2; small++) {
      char name[72];
      struct back *b = malloc(sizeof *b);
      *b = (struct back){.w = matrix(rows, cols, 32, kinds[kind].quant), .tokens = tokens};
      b->x = floats(tokens * rows);
      b->y = floats(tokens * cols);
      b->kernel = small ? k->gradients.gemm_transposed_int8 : k->gradients.gemm_transposed;
      snprintf(name, sizeof name, "back %s, %s, %s", what, kinds[kind].name,
               small ? "int8" : "f32");
      add_case(name, run_back, b, (double)(rows * cols * tokens), "GMAC/s",
               small ? int8_peak : f32_peak);
    }
  }
}

struct attention {
  struct pio_kv kv[16];  // heads
  size_t heads, group, rows, keys, step;
  float *q, *out, *scratch;
};

static void run_attention(const void *context, unsigned thread, unsigned threads) {
  const struct attention *a = context;
  size_t dim = a->kv[0].head_dim, stride = a->heads * a->group * dim;
  float *scratch = a->scratch + thread * pio_attention_scratch(dim);
  size_t tile = a->rows < 32 ? a->rows : 32, tiles = (a->rows + tile - 1) / tile;
  for (size_t task = thread; task < tiles * a->heads; task += threads) {
    size_t first = (tiles - 1 - task / a->heads) * tile, head = task % a->heads;
    size_t rows = a->rows - first < tile ? a->rows - first : tile;
    size_t at = first * stride + head * a->group * dim;
    k->attention(a->out + at, stride, a->q + at, stride, &a->kv[head], rows, a->group,
                 a->step ? a->keys - a->rows + first + 1 : a->keys, a->step, 0.125f, scratch);
  }
}

static void run_attention_all(const void *context, unsigned thread, unsigned threads) {
  const struct attention *a = context;
  size_t dim = a->kv[0].head_dim, stride = a->heads * dim, tile = PIO_ALL_ROWS;
  float *scratch = a->scratch + thread * pio_attention_all_scratch(dim);
  size_t tiles = (a->rows + tile - 1) / tile;
  for (size_t task = thread; task < tiles * a->heads; task += threads) {
    size_t first = task / a->heads * tile, head = task % a->heads, at = first * stride + head * dim;
    size_t rows = a->rows - first < tile ? a->rows - first : tile;
    k->attention_all(a->out + at, stride, a->q + at, stride, &a->kv[head], rows, a->keys, 0.125f,
                     scratch);
  }
}

static void add_attention(const char *what, size_t dim, size_t heads, size_t group, size_t rows,
                          size_t keys, size_t step) {
  const char *names[] = {"f32", "f16", "", "int8"};
  for (uint32_t kind = PIO_F32; kind <= PIO_KV_INT8; kind++) {
    if (kind == PIO_BF16) continue;
    struct attention *a = malloc(sizeof *a);
    *a = (struct attention){.heads = heads, .group = group, .rows = rows, .keys = keys};
    a->step = step;
    a->q = floats(rows * heads * group * dim);
    a->out = floats(rows * heads * group * dim);
    a->scratch = floats(MAX_THREADS * pio_attention_all_scratch(dim));
    for (size_t h = 0; h < heads; h++) {
      a->kv[h] = (struct pio_kv){
          floats(keys * dim), floats(keys * dim), floats(keys), floats(keys), kind, (uint32_t)dim};
      for (size_t i = 0; i < keys; i++) {
        k->kv_store(&a->kv[h], i, a->q + i % rows * dim, a->q + i % rows * dim);
      }
    }
    double seen = step ? (double)(keys - rows) + 0.5 * (double)(rows + 1) : (double)keys;
    double pairs = seen * (double)(rows * heads * group);
    char name[72];
    snprintf(name, sizeof name, "attention %s, %s", what, names[kind]);
    add_case(name, run_attention, a, 4 * pairs * (double)dim, "GFLOP/s", f32_peak);
    if (kind != PIO_F32 || group != 1 || step != 0) continue;
    snprintf(name, sizeof name, "attention %s, to all", what);
    add_case(name, run_attention_all, a, 4 * pairs * (double)dim, "GFLOP/s", f32_peak);
  }
}

struct run_of_rows {
  float *x, *y;
  struct pio_activations a;
  int operation;
  size_t count;
};

// 64 rows of 2,048, what lies in the second-level cache.
static void run_rows(const void *context, unsigned thread, unsigned threads) {
  const struct run_of_rows *r = context;
  size_t dim = r->count;
  for (size_t row = thread; row < 64; row += threads) {
    float *x = r->x + row * dim, *y = r->y + row * dim;
    struct pio_activations a = {r->a.values + row * dim, r->a.scales + row * dim / 32,
                                r->a.sums + row * dim / 32};
    switch (r->operation) {
      case 0:
        k->quantize(a, x, dim, 1, dim, 32);
        break;
      case 1:
        k->rms_norm(y, x, r->x, 1e-5f, dim);
        break;
      case 2:
        k->layer_norm(y, x, r->x, r->x, 1e-5f, dim);
        break;
      case 3:
        k->silu_mul(y, x, dim);
        break;
      case 4:
        k->activate(y, dim, 0);
        break;
      case 5:
        k->activate(y, dim, 1);
        break;
      case 6:
        k->activate(y, dim, 2);
        break;
      case 7:
        k->rope(y, x, x + 32, dim / 64, 64);
        break;
      default:
        k->add(y, x, dim);
    }
  }
}

static void add_rows(void) {
  const char *names[] = {"quantize g32", "rms_norm",   "layer_norm", "silu_mul", "gelu",
                         "gelu tanh",    "gelu quick", "rope",       "add"};
  for (int operation = 0; operation < 9; operation++) {
    size_t dim = 2048, count = 64 * dim;
    struct run_of_rows *r = malloc(sizeof *r);
    *r = (struct run_of_rows){floats(count), floats(count), {0}, operation, dim};
    r->a = (struct pio_activations){bytes(count), floats(count / 32), bytes(count / 8)};
    add_case(names[operation], run_rows, r, (double)count, "Gelem/s", -1);
  }
}

int main(int argc, char **argv) {
  k = pio_kernels_best();
  int rounds = 15, option;
  while ((option = getopt(argc, argv, "i:t:r:")) != -1) {
    if (option == 'i') k = pio_kernels_named(optarg);
    if (option == 't') thread_count = (unsigned)atoi(optarg);
    if (option == 'r') rounds = atoi(optarg);
    if (option == '?') return 64;
  }
  if (!k) return fprintf(stderr, "this CPU or this build lacks these kernels\n"), 1;
  if (thread_count < 1 || thread_count > MAX_THREADS || rounds < 1 || rounds > MAX_ROUNDS)
    return 64;
  const char *section = optind < argc ? argv[optind] : "all";
  int all = strcmp(section, "all") == 0;
  add_peaks();
  add_reads();
  if (all || strcmp(section, "gemm") == 0) add_gemms();
  if (all || strcmp(section, "gemv") == 0) add_gemvs();
  if (all || strcmp(section, "float") == 0) add_floats();
  if (all || strcmp(section, "back") == 0) {
    add_back("head 32000 x 2048, 4 tokens", 32000, 2048, 4);
    add_back("MLP 5632 x 2048, 4 tokens", 5632, 2048, 4);
    add_back("keys 256 x 2048, 128 tokens", 256, 2048, 128);
  }
  if (all || strcmp(section, "attention") == 0) {
    add_attention("ViT-L 577 x 577, 16 heads", 64, 16, 1, 577, 577, 0);
    add_attention("SigLIP 1024 x 1024, 12 heads", 64, 12, 1, 1024, 1024, 0);
    add_attention("a window of 64, 16 heads of 80", 80, 16, 1, 64, 64, 0);
    add_attention("causal 640, 4 KV heads x 8", 64, 4, 8, 640, 640, 1);
    add_attention("decode 640 keys, 4 KV heads x 8", 64, 4, 8, 1, 640, 1);
    add_attention("decode 4096 keys, 4 KV heads x 8", 64, 4, 8, 1, 4096, 1);
  }
  if (all || strcmp(section, "rows") == 0) add_rows();
  if (case_count == 3)
    return fprintf(stderr, "sections: gemm gemv float back attention rows\n"), 64;
  printf("%s, %u thread(s), %d rounds; median (least-most), share of the limit\n", k->isa,
         thread_count, rounds);
  start_workers();
  measure(rounds, 0.01);
  return 0;
}
