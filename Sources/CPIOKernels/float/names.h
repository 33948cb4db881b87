// How a body names its functions: NAME(add) is pio_add_avx2 where PIO_ISA is avx2.
#include "../internal.h"
#include "../tables.h"

#define NAME_(op, isa) pio_##op##_##isa
#define NAME__(op, isa) NAME_(op, isa)
#define NAME(op) NAME__(op, PIO_ISA)
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")
