// The tables, and which of them this CPU can run.
#include "CPIOKernels.h"
#include "internal.h"
#include "tables.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

static const struct pio_kernels scalar = PIO_TABLE("scalar", scalar, scalar);

#if defined(__x86_64__)

static const struct pio_kernels avx2 = PIO_TABLE("avx2", avx2, avx2);
static const struct pio_kernels avxvnni = PIO_TABLE("avxvnni", avxvnni, avx2);
static const struct pio_kernels avx512vnni = PIO_TABLE("avx512vnni", avx512vnni, avx512);
static const struct pio_kernels avx512vnni_wide =
    PIO_TABLE("avx512vnni-wide", avx512vnni_wide, avx512);

// The compiler's runtime asks cpuid, and xgetbv whether the system saves the registers.
static int runs_avx2(void) {
  unsigned a, b, c = 0, d;  // clang 17 does not know the name f16c
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_F16C)) return 0;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int runs_avxvnni(void) {
  unsigned a = 0, b, c, d;
  return runs_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

static int runs_avx512vnni(void) {
  return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

// Tiles of two row-blocks: measured on Intel's cores (CPUID family 6, model 207), where a product
// of 512 tokens gets 1.2 times faster with int4 and 1.3 times with int8. Zen 4 begins one 64-byte
// product a cycle and has nothing to gain.
static const struct pio_kernels *best_avx512vnni(void) {
  return __builtin_cpu_is("intel") ? &avx512vnni_wide : &avx512vnni;
}

const struct pio_kernels *pio_kernels_best(void) {
  if (runs_avx512vnni()) return best_avx512vnni();
  return runs_avxvnni() ? &avxvnni : runs_avx2() ? &avx2 : &scalar;
}

const struct pio_kernels *pio_kernels_named(const char *isa) {
  if (strcmp(isa, scalar.isa) == 0) return &scalar;
  if (strcmp(isa, avx2.isa) == 0 && runs_avx2()) return &avx2;
  if (strcmp(isa, avxvnni.isa) == 0 && runs_avxvnni()) return &avxvnni;
  if (strcmp(isa, avx512vnni.isa) == 0 && runs_avx512vnni()) return &avx512vnni;
  if (strcmp(isa, avx512vnni_wide.isa) == 0 && runs_avx512vnni()) return &avx512vnni_wide;
  return NULL;
}

#elif defined(__aarch64__)

static const struct pio_kernels neon = PIO_TABLE("neon", neon, neon);
static const struct pio_kernels dotprod = PIO_TABLE("dotprod", dotprod, neon);
static const struct pio_kernels i8mm = PIO_TABLE("i8mm", i8mm, neon);

#if defined(__linux__)
static int runs_dotprod(void) {
  return (getauxval(AT_HWCAP) >> 20 & 1) != 0;
}  // HWCAP_ASIMDDP
static int runs_i8mm(void) {  // HWCAP2_I8MM
  return runs_dotprod() && (getauxval(AT_HWCAP2) >> 13 & 1) != 0;
}
#else
static int runs_dotprod(void) {
  return 0;
}
static int runs_i8mm(void) {
  return 0;
}
#endif

const struct pio_kernels *pio_kernels_best(void) {
  return runs_i8mm() ? &i8mm : runs_dotprod() ? &dotprod : &neon;
}

const struct pio_kernels *pio_kernels_named(const char *isa) {
  if (strcmp(isa, scalar.isa) == 0) return &scalar;
  if (strcmp(isa, neon.isa) == 0) return &neon;
  if (strcmp(isa, dotprod.isa) == 0 && runs_dotprod()) return &dotprod;
  if (strcmp(isa, i8mm.isa) == 0 && runs_i8mm()) return &i8mm;
  return NULL;
}

#else

const struct pio_kernels *pio_kernels_best(void) {
  return &scalar;
}

const struct pio_kernels *pio_kernels_named(const char *isa) {
  return strcmp(isa, scalar.isa) == 0 ? &scalar : NULL;
}

#endif

const struct pio_kernels *pio_kernels_scalar(void) {
  return &scalar;
}

size_t pio_attention_scratch(size_t head_dim) {
  return PIO_ATTENTION_SCRATCH(head_dim);
}
