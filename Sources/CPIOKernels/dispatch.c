// The tables, and which of them this CPU can run.
#include "CPIOKernels.h"
#include "internal.h"
#include "isa.h"
#include "tables.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

static const struct pio_kernels scalar = PIO_TABLE(PIO_ISA_SCALAR, scalar, scalar);

// A table, and whether this CPU can run it.
struct variant {
  const struct pio_kernels *kernels;
  int (*runs)(void);
};

static int runs_always(void) {
  return 1;
}

#if defined(__x86_64__)

static const struct pio_kernels avx2 = PIO_TABLE(PIO_ISA_AVX2, avx2, avx2);
static const struct pio_kernels avxvnni = PIO_TABLE(PIO_ISA_AVXVNNI, avxvnni, avx2);
static const struct pio_kernels avx512vnni = PIO_TABLE(PIO_ISA_AVX512VNNI, avx512vnni, avx512);
static const struct pio_kernels avx512vnni_wide =
    PIO_TABLE(PIO_ISA_AVX512VNNI_WIDE, avx512vnni_wide, avx512);

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

static const struct variant variants[] = {
    {&scalar, runs_always},
    {&avx2, runs_avx2},
    {&avxvnni, runs_avxvnni},
    {&avx512vnni, runs_avx512vnni},
    {&avx512vnni_wide, runs_avx512vnni},
};

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

#elif defined(__aarch64__)

static const struct pio_kernels neon = PIO_TABLE(PIO_ISA_NEON, neon, neon);
static const struct pio_kernels dotprod = PIO_TABLE(PIO_ISA_DOTPROD, dotprod, neon);
static const struct pio_kernels i8mm = PIO_TABLE(PIO_ISA_I8MM, i8mm, neon);

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

static const struct variant variants[] = {
    {&scalar, runs_always},
    {&neon, runs_always},
    {&dotprod, runs_dotprod},
    {&i8mm, runs_i8mm},
};

const struct pio_kernels *pio_kernels_best(void) {
  return runs_i8mm() ? &i8mm : runs_dotprod() ? &dotprod : &neon;
}

#else

static const struct variant variants[] = {{&scalar, runs_always}};

const struct pio_kernels *pio_kernels_best(void) {
  return &scalar;
}

#endif

const struct pio_kernels *pio_kernels_runnable(size_t index) {
  for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
    if (!variants[i].runs()) continue;
    if (index == 0) return variants[i].kernels;
    index--;
  }
  return NULL;
}

const struct pio_kernels *pio_kernels_named(const char *isa) {
  const struct pio_kernels *found;
  for (size_t i = 0; (found = pio_kernels_runnable(i)) != NULL; i++) {
    if (strcmp(isa, found->isa) == 0) return found;
  }
  return NULL;
}

const struct pio_kernels *pio_kernels_scalar(void) {
  return &scalar;
}

size_t pio_attention_all_scratch(size_t head_dim) {
  const size_t floats = pio_attention_scratch(head_dim),
               whole = PIO_ATTENTION_ALL_SCRATCH(head_dim);
  return floats > whole ? floats : whole;
}

size_t pio_attention_scratch(size_t head_dim) {
  return PIO_ATTENTION_SCRATCH(head_dim);
}
