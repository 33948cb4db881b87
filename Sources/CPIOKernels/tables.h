// The functions of every instruction set, and how a file names them.
#ifndef PIO_TABLES_H
#define PIO_TABLES_H

#include "CPIOKernels.h"

#define PIO_DECLARE_GRADIENTS(isa)                                  \
  extern pio_gemm_transposed pio_gemm_transposed_##isa;             \
  extern pio_gemm_transposed_float pio_gemm_transposed_float_##isa; \
  extern pio_rms_norm_back pio_rms_norm_back_##isa;                 \
  extern pio_rope_back pio_rope_back_##isa;                         \
  extern pio_silu_mul_back pio_silu_mul_back_##isa;                 \
  extern pio_softmax pio_softmax_##isa;                             \
  extern pio_exponentials pio_exponentials_##isa;                   \
  extern pio_kv_read pio_kv_read_##isa;

#define PIO_DECLARE_FLOAT(isa)                                          \
  extern pio_quantize pio_quantize_##isa;                               \
  extern pio_gemm_f32 pio_gemm_f32_##isa;                               \
  extern pio_rms_norm pio_rms_norm_##isa;                               \
  extern pio_layer_norm pio_layer_norm_##isa;                           \
  extern pio_rope pio_rope_##isa;                                       \
  extern pio_silu_mul pio_silu_mul_##isa;                               \
  extern pio_activate pio_activate_##isa;                               \
  extern pio_add pio_add_##isa;                                         \
  extern pio_kv_store pio_kv_store_##isa;                               \
  extern pio_attention pio_attention_##isa;                             \
  extern pio_attention_part pio_attention_part_##isa;                   \
  extern pio_attention_probabilities pio_attention_probabilities_##isa; \
  extern pio_argmax pio_argmax_##isa;                                   \
  extern pio_at_least pio_at_least_##isa;                               \
  extern pio_exp_run pio_exp_run_##isa;                                 \
  extern pio_widen pio_f16_to_f32_##isa;                                \
  extern pio_widen pio_bf16_to_f32_##isa;                               \
  PIO_DECLARE_GRADIENTS(isa)

PIO_DECLARE_FLOAT(scalar)
PIO_DECLARE_FLOAT(avx2)
PIO_DECLARE_FLOAT(avx512)
PIO_DECLARE_FLOAT(neon)

extern pio_gemm_transposed pio_gemm_transposed_int8_scalar, pio_gemm_transposed_int8_avx2,
    pio_gemm_transposed_int8_avxvnni, pio_gemm_transposed_int8_avx512vnni,
    pio_gemm_transposed_int8_neon, pio_gemm_transposed_int8_dotprod;
#define pio_gemm_transposed_int8_avx512vnni_wide pio_gemm_transposed_int8_avx512vnni
#define pio_gemm_transposed_int8_i8mm pio_gemm_transposed_int8_dotprod

extern pio_attention_all pio_attention_all_scalar, pio_attention_all_avx2,
    pio_attention_all_avxvnni, pio_attention_all_avx512vnni, pio_attention_all_neon;
#define pio_attention_all_avx512vnni_wide pio_attention_all_avx512vnni
#define pio_attention_all_dotprod pio_attention_all_neon
#define pio_attention_all_i8mm pio_attention_all_neon

extern pio_gemm pio_gemm_scalar, pio_gemm_avx2, pio_gemm_avxvnni, pio_gemm_avx512vnni,
    pio_gemm_avx512vnni_wide, pio_gemm_neon, pio_gemm_dotprod, pio_gemm_i8mm;

#define PIO_GRADIENTS(gemm_isa, isa)                                                          \
  {                                                                                           \
    pio_gemm_transposed_##isa, pio_gemm_transposed_int8_##gemm_isa,                           \
        pio_gemm_transposed_float_##isa, pio_rms_norm_back_##isa, pio_rope_back_##isa,        \
        pio_silu_mul_back_##isa, pio_softmax_##isa, pio_exponentials_##isa, pio_kv_read_##isa \
  }

// A table: the integer product of one instruction set with the float operations of another.
#define PIO_TABLE(name, gemm_isa, isa_)                                                         \
  {                                                                                             \
    name, pio_quantize_##isa_, pio_gemm_##gemm_isa, pio_gemm_f32_##isa_, pio_rms_norm_##isa_,   \
        pio_layer_norm_##isa_, pio_rope_##isa_, pio_silu_mul_##isa_, pio_activate_##isa_,       \
        pio_add_##isa_, pio_kv_store_##isa_, pio_attention_##isa_, pio_attention_part_##isa_,   \
        pio_attention_all_##gemm_isa, pio_attention_probabilities_##isa_, pio_argmax_##isa_,    \
        pio_at_least_##isa_, pio_exp_run_##isa_, pio_f16_to_f32_##isa_, pio_bf16_to_f32_##isa_, \
        PIO_GRADIENTS(gemm_isa, isa_)                                                           \
  }

#endif
