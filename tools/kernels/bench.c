// Speed of the kernels beside what this core can do, one thread.
//   clang -O2 -Iinclude -o /tmp/bench ../../tools/kernels/bench.c *.c */*.c -lm   (in
//   Sources/CPIOKernels) /tmp/bench [ISA]
// Peaks are loops of independent vpdpbusd / FMA in registers (x86 with AVX-512 or AVX2 only).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "CPIOKernels.h"

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define BUDGET 0.3

// The best time of calls of `work` over so many seconds.
#define BEST(result, work)                                          \
  do {                                                              \
    double start_ = seconds();                                      \
    (result) = 1e9;                                                 \
    for (int n_ = 0; n_ < 3 || seconds() - start_ < BUDGET; n_++) { \
      double lap_ = seconds();                                      \
      work;                                                         \
      lap_ = seconds() - lap_;                                      \
      if (lap_ < (result)) (result) = lap_;                         \
    }                                                               \
  } while (0)

#if defined(__x86_64__)
#include <immintrin.h>

// 16 independent chains of one instruction, so that latency does not show.
#define CHAINS(type, zero, step)                                      \
  type c[16];                                                         \
  for (int i = 0; i < 16; i++) c[i] = zero;                           \
  for (int n = 0; n < (1 << 20); n++) {                               \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < 16; i++) { \
      c[i] = step;                                                    \
      __asm__ volatile("" : "+v"(c[i]));                              \
    }                                                                 \
  }

__attribute__((target("avx512f,avx512vnni"))) static void vnni_peak(void) {
  __m512i a = _mm512_set1_epi32(0x01020304);
  CHAINS(__m512i, a, _mm512_dpbusd_epi32(c[i], a, a))
}

__attribute__((target("avx512f"))) static void fma_peak_512(void) {
  __m512 a = _mm512_set1_ps(0.5f);
  CHAINS(__m512, a, _mm512_fmadd_ps(c[i], a, a))
}

__attribute__((target("avx2,fma"))) static void fma_peak_256(void) {
  __m256 a = _mm256_set1_ps(0.5f);
  CHAINS(__m256, a, _mm256_fmadd_ps(c[i], a, a))
}

// Integer peak in GMAC/s (0: not measured) and f32 peak in GFLOP/s.
static void peaks(double *macs, double *flops) {
  double t;
  *macs = *flops = 0;
  if (__builtin_cpu_supports("avx512vnni")) {
    BEST(t, vnni_peak());
    *macs = 64 * 16 * 0x1p20 / t * 1e-9;
    BEST(t, fma_peak_512());
    *flops = 32 * 16 * 0x1p20 / t * 1e-9;
  } else if (__builtin_cpu_supports("avx2")) {
    BEST(t, fma_peak_256());
    *flops = 16 * 16 * 0x1p20 / t * 1e-9;
  }
}
#else
static void peaks(double *macs, double *flops) {
  *macs = *flops = 0;
}
#endif

static void *bytes(size_t count) {
  uint8_t *p = aligned_alloc(64, (count + 63) / 64 * 64);
  if (!p) exit(1);
  for (size_t i = 0; i < count; i++) p[i] = (uint8_t)(rand() >> 8);
  return p;
}

static float *floats(size_t count) {
  float *p = aligned_alloc(64, (count * 4 + 63) / 64 * 64);
  if (!p) exit(1);
  for (size_t i = 0; i < count; i++) p[i] = (float)rand() / (float)RAND_MAX - 0.5f;
  return p;
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

static void bench_gemm(const struct pio_kernels *k, size_t rows, size_t cols, double peak) {
  const struct {
    uint32_t quant;
    const char *name;
  } kinds[] = {{PIO_INT4, "int4"}, {PIO_INT4_AFFINE, "int4 affine"}, {PIO_INT8, "int8"}};
  float *x = floats(640 * cols), *y = floats(640 * rows);
  for (size_t kind = 0; kind < 3; kind++) {
    for (uint32_t group = 32; group <= 128; group *= 2) {
      struct pio_matrix w = matrix(rows, cols, group, kinds[kind].quant);
      struct pio_activations a = {malloc(640 * cols), malloc(640 * cols / group * 4),
                                  malloc(640 * cols / group * 4)};
      k->quantize(a, x, cols, 640, cols, group);
      const size_t counts[] = {1, 8, 64, 640};
      for (size_t i = 0; i < 4; i++) {
        double t;
        BEST(t, k->gemm(y, rows, &w, a, counts[i], 0, rows / 16, NULL, 0));
        double macs = (double)(counts[i] * rows * cols) / t * 1e-9;
        double size = (double)(rows / 16 * (cols / group) * pio_block_bytes(w.quant, group));
        printf("gemm %-11s group %3u tokens %3zu: %7.1f GMAC/s", kinds[kind].name, group, counts[i],
               macs);
        if (peak > 0) printf(" %5.1f %%", 100 * macs / peak);
        if (counts[i] == 1) printf("  %.1f GB/s of weights", size / t * 1e-9);
        printf("\n");
      }
      free((void *)w.blocks);
      free(a.values);
      free(a.scales);
      free(a.sums);
    }
  }
  free(x);
  free(y);
}

// A plain read of 256 MiB: the sum of its words.
static void bench_read(void) {
  size_t count = 32 << 20;
  const uint64_t *p = bytes(count * 8);
  volatile uint64_t sink;
  double t;
  BEST(t, {
    uint64_t sum[4] = {0};
    for (size_t i = 0; i < count; i += 4) {
      for (int j = 0; j < 4; j++) sum[j] += p[i + j];
    }
    sink = sum[0] + sum[1] + sum[2] + sum[3];
  });
  (void)sink;
  printf("plain read of 256 MiB: %.1f GB/s\n", (double)count * 8 / t * 1e-9);
  free((void *)p);
}

// Decoding: one token, weights far larger than the caches.
static void bench_gemv(const struct pio_kernels *k) {
  size_t rows = 16384, cols = 16384;
  float *x = floats(cols), *y = floats(rows);
  struct pio_activations a = {malloc(cols), malloc(cols), malloc(cols)};
  for (uint32_t quant = PIO_INT8; quant <= PIO_INT4; quant++) {
    struct pio_matrix w = matrix(rows, cols, 32, quant);
    double t, size = (double)(rows / 16 * (cols / 32) * pio_block_bytes(quant, 32));
    k->quantize(a, x, cols, 1, cols, 32);
    BEST(t, k->gemm(y, rows, &w, a, 1, 0, rows / 16, NULL, 0));
    printf("gemv int%d from memory: %.1f GB/s\n", quant == PIO_INT8 ? 8 : 4, size / t * 1e-9);
    free((void *)w.blocks);
  }
  free(x);
  free(y);
  free(a.values);
  free(a.scales);
  free(a.sums);
}

static void bench_float(const struct pio_kernels *k, double peak) {
  size_t tokens = 256, rows = 1024, cols = 1024;
  float *x = floats(tokens * cols), *w = floats(rows * cols), *y = floats(tokens * rows);
  double t;
  for (size_t n = 1; n <= tokens; n *= 16) {
    BEST(t, k->gemm_f32(y, rows, w, cols, x, cols, n, rows, cols, NULL, 0));
    double flops = 2.0 * (double)(n * rows * cols) / t * 1e-9;
    printf("gemm_f32 tokens %3zu: %.1f GFLOP/s %.1f %%\n", n, flops, 100 * flops / peak);
  }
  free(x);
  free(w);
  free(y);
}

static void bench_attention(const struct pio_kernels *k, double peak) {
  const char *names[] = {"f32", "f16", "", "int8"};
  const size_t dim = 64, shapes[][3] = {{577, 577, 0}, {640, 640, 1}, {1, 1024, 0}};
  float *q = floats(640 * dim), *out = floats(640 * dim),
        *scratch = floats(pio_attention_scratch(dim));
  for (uint32_t kind = PIO_F32; kind <= PIO_KV_INT8; kind++) {
    if (kind == PIO_BF16) continue;
    struct pio_kv kv = {
        floats(1024 * dim), floats(1024 * dim), floats(1024), floats(1024), kind, dim};
    float *row = floats(dim);
    for (size_t i = 0; i < 1024; i++) k->kv_store(&kv, i, row, row);
    for (size_t s = 0; s < 3; s++) {
      size_t rows = shapes[s][0], keys = shapes[s][1], step = shapes[s][2];
      double t, pairs = step ? 0.5 * (double)(rows * (rows + 1)) : (double)(rows * keys);
      BEST(t, k->attention(out, dim, q, dim, &kv, rows, 1, step ? 1 : keys, step, 0.125f, scratch));
      double flops = 4 * pairs * (double)dim / t * 1e-9;
      printf("attention %-4s %3zu x %4zu%s: %.1f GFLOP/s %.1f %%\n", names[kind], rows, keys,
             step ? " causal" : "", flops, 100 * flops / peak);
    }
    free(kv.keys);
    free(kv.values);
    free(kv.key_scales);
    free(kv.value_scales);
    free(row);
  }
  free(q);
  free(out);
  free(scratch);
}

static void bench_rows(const struct pio_kernels *k) {
  size_t count = 1 << 14;
  float *x = floats(count), *y = floats(count);
  struct pio_activations a = {malloc(count), malloc(count), malloc(count)};
  double t;
  BEST(t, for (int i = 0; i < 64; i++) k->quantize(a, x, count, 1, count, 32));
  printf("quantize: %.2f Gelements/s\n", 64 * (double)count / t * 1e-9);
  BEST(t, for (int i = 0; i < 64; i++) k->rms_norm(y, x, x, 1e-5f, count));
  printf("rms_norm: %.2f Gelements/s\n", 64 * (double)count / t * 1e-9);
  BEST(t, for (int i = 0; i < 64; i++) k->silu_mul(y, x, count));
  printf("silu_mul: %.2f Gelements/s\n", 64 * (double)count / t * 1e-9);
  for (int kind = 0; kind < 3; kind++) {
    BEST(t, for (int i = 0; i < 64; i++) k->activate(y, count, kind));
    printf("activate %d: %.2f Gelements/s\n", kind, 64 * (double)count / t * 1e-9);
  }
  free(x);
  free(y);
  free(a.values);
  free(a.scales);
  free(a.sums);
}

int main(int argc, char **argv) {
  const struct pio_kernels *k = argc > 1 ? pio_kernels_named(argv[1]) : pio_kernels_best();
  if (!k) return printf("this CPU or this build lacks it\n"), 1;
  double macs, flops;
  peaks(&macs, &flops);
  printf("%s; peaks: %.0f int8 GMAC/s, %.0f f32 GFLOP/s\n", k->isa, macs, flops);
  bench_read();
  bench_gemv(k);
  bench_gemm(k, 4096, 4096, macs);
  bench_float(k, flops);
  bench_attention(k, flops);
  bench_rows(k);
  return 0;
}
