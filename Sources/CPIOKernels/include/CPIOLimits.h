// What a core can do at most: loops of nothing but the work named, to hold the kernels against.
#ifndef CPIOLIMITS_H
#define CPIOLIMITS_H

#include <stddef.h>
#include <stdint.h>

struct pio_limit_loops {
  const char *isa;
  // Does `rounds` rounds of independent multiply-adds of 8-bit numbers into 32-bit sums, all in
  // registers, with the instruction that gives this instruction set the most of them; returns how
  // many multiply-adds that were.
  uint64_t (*int8_macs)(uint64_t rounds);
  // The same for f32, in floating-point operations: two for a multiply-add.
  uint64_t (*f32_flops)(uint64_t rounds);
  // Reads `count` bytes once, ascending, with the widest loads; `data` aligned to 64 bytes, `count`
  // a multiple of 4096. Returns a value made of all of them, so that no load can be left out.
  uint64_t (*read)(const void *data, size_t count);
  // The same, asking for lines 4 KiB ahead, which some cores read faster with; NULL where that was
  // not tried.
  uint64_t (*read_ahead)(const void *data, size_t count);
};

// The loops that belong to the kernels of that name (see `pio_kernels_named`), which must be ones
// this CPU can run. A name without loops of its own gets the scalar ones.
const struct pio_limit_loops *pio_limit_loops_for(const char *isa);

#endif
