// Loops that say what a core can do at most. Sixteen chains (or as many as there are registers for)
// hide an instruction's latency; an empty `asm` after each step keeps the compiler from folding
// them.
#include <string.h>

#include "CPIOLimits.h"
#include "isa.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// `count` chains of `step`, which reads and writes c[i]; `where` is the register class.
#define CHAINS(rounds, count, type, zero, where, step)                     \
  do {                                                                     \
    type c[count];                                                         \
    for (int i = 0; i < (count); i++) c[i] = (zero);                       \
    for (uint64_t n = 0; n < (rounds); n++) {                              \
      _Pragma("clang loop unroll(full)") for (int i = 0; i < count; i++) { \
        step;                                                              \
        __asm__ volatile("" : where(c[i]));                                \
      }                                                                    \
    }                                                                      \
  } while (0)

static uint64_t int8_macs_scalar(uint64_t rounds) {
  int32_t a = 3, b = 5;
  __asm__ volatile("" : "+r"(a), "+r"(b));
  CHAINS(rounds, 8, int32_t, 0, "+r", c[i] += (int32_t)(int8_t)a * (int8_t)b;
         __asm__ volatile(""
                          : "+r"(a)));
  return rounds * 8;
}

#if defined(__x86_64__)
#define FLOAT_REGISTER "+x"
#elif defined(__aarch64__)
#define FLOAT_REGISTER "+w"
#else
#define FLOAT_REGISTER "+r"
#endif

static uint64_t f32_flops_scalar(uint64_t rounds) {
  float a = 0.5f;
  __asm__ volatile("" : FLOAT_REGISTER(a));
  CHAINS(rounds, 8, float, 0.25f, FLOAT_REGISTER, c[i] = c[i] * a + a);
  return rounds * 8 * 2;
}

static uint64_t read_scalar(const void *data, size_t count) {
  const uint64_t *p = data;
  uint64_t sum[8] = {0};
  for (size_t i = 0; i < count / 8; i += 8) {
    for (int j = 0; j < 8; j++) sum[j] ^= p[i + j];
  }
  for (int j = 1; j < 8; j++) sum[0] ^= sum[j];
  return sum[0];
}

static const struct pio_limit_loops scalar = {PIO_ISA_SCALAR, int8_macs_scalar, f32_flops_scalar,
                                              read_scalar, NULL};

#if defined(__x86_64__)

// Products of unsigned with signed numbers in pairs, pairs added, sums widened: three instructions
// for 32 multiply-adds.
__attribute__((target("avx2"))) static uint64_t int8_macs_avx2(uint64_t rounds) {
  __m256i a = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
  __asm__ volatile("" : "+x"(a), "+x"(ones));
  CHAINS(rounds, 12, __m256i, a, "+x", {
    __m256i pairs = _mm256_maddubs_epi16(a, a);
    __asm__ volatile("" : "+x"(pairs), "+x"(a));
    c[i] = _mm256_add_epi32(c[i], _mm256_madd_epi16(pairs, ones));
  });
  return rounds * 12 * 32;
}

__attribute__((target("avx2,fma"))) static uint64_t f32_flops_avx2(uint64_t rounds) {
  __m256 a = _mm256_set1_ps(0.5f);
  CHAINS(rounds, 12, __m256, a, "+x", c[i] = _mm256_fmadd_ps(c[i], a, a));
  return rounds * 12 * 8 * 2;
}

#define READ_AVX2(data, count, ahead)                                                       \
  do {                                                                                      \
    const char *p = data;                                                                   \
    __m256i sum[8] = {0};                                                                   \
    for (size_t i = 0; i < count; i += 256) {                                               \
      for (size_t j = 0; ahead > 0 && j < 4; j++) {                                         \
        __builtin_prefetch(p + i + ahead + 64 * j);                                         \
      }                                                                                     \
      for (int j = 0; j < 8; j++) {                                                         \
        sum[j] = _mm256_xor_si256(sum[j], _mm256_load_si256((const __m256i *)(p + i) + j)); \
      }                                                                                     \
    }                                                                                       \
    for (int j = 1; j < 8; j++) sum[0] = _mm256_xor_si256(sum[0], sum[j]);                  \
    uint64_t words[4];                                                                      \
    memcpy(words, &sum[0], sizeof words);                                                   \
    return words[0] ^ words[1] ^ words[2] ^ words[3];                                       \
  } while (0)

__attribute__((target("avx2"))) static uint64_t read_avx2(const void *data, size_t count) {
  READ_AVX2(data, count, 0);
}

__attribute__((target("avx2"))) static uint64_t read_ahead_avx2(const void *data, size_t count) {
  READ_AVX2(data, count, 4096);
}

static const struct pio_limit_loops avx2 = {PIO_ISA_AVX2, int8_macs_avx2, f32_flops_avx2, read_avx2,
                                            read_ahead_avx2};

__attribute__((target("avx2,avxvnni"))) static uint64_t int8_macs_avxvnni(uint64_t rounds) {
  __m256i a = _mm256_set1_epi8(1);
  CHAINS(rounds, 12, __m256i, a, "+x", c[i] = _mm256_dpbusd_avx_epi32(c[i], a, a));
  return rounds * 12 * 32;
}

static const struct pio_limit_loops avxvnni = {PIO_ISA_AVXVNNI, int8_macs_avxvnni, f32_flops_avx2,
                                               read_avx2, read_ahead_avx2};

__attribute__((target("avx512f,avx512vnni"))) static uint64_t int8_macs_avx512vnni(
    uint64_t rounds) {
  __m512i a = _mm512_set1_epi8(1);
  CHAINS(rounds, 16, __m512i, a, "+v", c[i] = _mm512_dpbusd_epi32(c[i], a, a));
  return rounds * 16 * 64;
}

__attribute__((target("avx512f"))) static uint64_t f32_flops_avx512(uint64_t rounds) {
  __m512 a = _mm512_set1_ps(0.5f);
  CHAINS(rounds, 16, __m512, a, "+v", c[i] = _mm512_fmadd_ps(c[i], a, a));
  return rounds * 16 * 16 * 2;
}

// Loads of 32 bytes: measured, those of 64 read less a second (Zen 4: 23 against 25 GB/s).
static const struct pio_limit_loops avx512vnni = {PIO_ISA_AVX512VNNI, int8_macs_avx512vnni,
                                                  f32_flops_avx512, read_avx2, read_ahead_avx2};

static const struct pio_limit_loops avx512vnni_wide = {
    PIO_ISA_AVX512VNNI_WIDE, int8_macs_avx512vnni, f32_flops_avx512, read_avx2, read_ahead_avx2};

static const struct pio_limit_loops *const all[] = {&avx2, &avxvnni, &avx512vnni, &avx512vnni_wide,
                                                    &scalar};

#elif defined(__aarch64__)

static uint64_t f32_flops_neon(uint64_t rounds) {
  float32x4_t a = vdupq_n_f32(0.5f);
  CHAINS(rounds, 16, float32x4_t, a, "+w", c[i] = vfmaq_f32(a, c[i], a));
  return rounds * 16 * 4 * 2;
}

static uint64_t read_neon(const void *data, size_t count) {
  const uint64_t *p = data;
  uint64x2_t sum[8];
  for (int j = 0; j < 8; j++) sum[j] = vdupq_n_u64(0);
  for (size_t i = 0; i < count / 8; i += 16) {
    for (int j = 0; j < 8; j++) sum[j] = veorq_u64(sum[j], vld1q_u64(p + i + 2 * j));
  }
  for (int j = 1; j < 8; j++) sum[0] = veorq_u64(sum[0], sum[j]);
  return vgetq_lane_u64(sum[0], 0) ^ vgetq_lane_u64(sum[0], 1);
}

// Two products of 8 added in 16 bits (which values of up to 127 allow), then widened: three
// instructions for 16 multiply-adds.
static uint64_t int8_macs_neon(uint64_t rounds) {
  int8x16_t a = vdupq_n_s8(1);
  __asm__ volatile("" : "+w"(a));
  CHAINS(rounds, 12, int32x4_t, vdupq_n_s32(0), "+w", {
    int16x8_t pairs = vmull_s8(vget_low_s8(a), vget_low_s8(a));
    __asm__ volatile("" : "+w"(pairs));
    pairs = vmlal_high_s8(pairs, a, a);
    __asm__ volatile("" : "+w"(pairs), "+w"(a));
    c[i] = vpadalq_s16(c[i], pairs);
  });
  return rounds * 12 * 16;
}

__attribute__((target("arch=armv8.2-a+dotprod"))) static uint64_t int8_macs_dotprod(
    uint64_t rounds) {
  int8x16_t a = vdupq_n_s8(1);
  CHAINS(rounds, 16, int32x4_t, vdupq_n_s32(0), "+w", c[i] = vdotq_s32(c[i], a, a));
  return rounds * 16 * 16;
}

__attribute__((target("arch=armv8.2-a+dotprod+i8mm"))) static uint64_t int8_macs_i8mm(
    uint64_t rounds) {
  int8x16_t a = vdupq_n_s8(1);
  CHAINS(rounds, 16, int32x4_t, vdupq_n_s32(0), "+w", c[i] = vmmlaq_s32(c[i], a, a));
  return rounds * 16 * 32;
}

static const struct pio_limit_loops neon = {PIO_ISA_NEON, int8_macs_neon, f32_flops_neon, read_neon,
                                            NULL};
static const struct pio_limit_loops dotprod = {PIO_ISA_DOTPROD, int8_macs_dotprod, f32_flops_neon,
                                               read_neon, NULL};
static const struct pio_limit_loops i8mm = {PIO_ISA_I8MM, int8_macs_i8mm, f32_flops_neon, read_neon,
                                            NULL};

static const struct pio_limit_loops *const all[] = {&neon, &dotprod, &i8mm, &scalar};

#else

static const struct pio_limit_loops *const all[] = {&scalar};

#endif

const struct pio_limit_loops *pio_limit_loops_for(const char *isa) {
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    if (strcmp(all[i]->isa, isa) == 0) return all[i];
  }
  return &scalar;
}
