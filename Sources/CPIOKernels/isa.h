// What instruction sets are called, here and on the command line.
#ifndef PIO_ISA_H
#define PIO_ISA_H

#define PIO_ISA_SCALAR "scalar"
#define PIO_ISA_AVX2 "avx2"
#define PIO_ISA_AVXVNNI "avxvnni"
#define PIO_ISA_AVX512VNNI "avx512vnni"
#define PIO_ISA_AVX512VNNI_WIDE "avx512vnni-wide"
#define PIO_ISA_NEON "neon"
#define PIO_ISA_DOTPROD "dotprod"
#define PIO_ISA_I8MM "i8mm"

#endif
