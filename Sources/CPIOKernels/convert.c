// Conversions between f32 and the 16-bit kinds, by bits: the same on every machine.
#include "internal.h"

float pio_f16_to_f32(uint16_t bits) {
  uint32_t sign = (uint32_t)(bits & 0x8000) << 16, magnitude = bits & 0x7fff;
  if (magnitude >= 0x7c00) {  // infinity, or a NaN made quiet
    uint32_t quiet = magnitude > 0x7c00 ? 0x400000 : 0;
    return pio_from_bits(sign | 0x7f800000 | quiet | (magnitude & 0x3ff) << 13);
  }
  if (magnitude >= 0x400) return pio_from_bits(sign | ((magnitude << 13) + (112u << 23)));
  float small = (float)magnitude * 0x1p-24f;  // zero or subnormal: exact
  return pio_from_bits(sign | pio_to_bits(small));
}

uint16_t pio_f16_from_f32(float x) {
  uint32_t bits = pio_to_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00);  // 65520 and above
  if (magnitude < 0x38800000) {  // below 2^-14: adding 0.5 rounds at f16's last place, 2^-24
    float shifted = pio_from_bits(magnitude) + 0.5f;
    return (uint16_t)(sign | (pio_to_bits(shifted) - pio_to_bits(0.5f)));
  }
  uint32_t odd = magnitude >> 13 & 1;  // to even: half a unit, less one where the result is even
  return (uint16_t)(sign | (magnitude - (112u << 23) + 0xfff + odd) >> 13);
}

float pio_bf16_to_f32(uint16_t bits) {
  uint32_t quiet = (bits & 0x7fff) > 0x7f80 ? 0x400000 : 0;
  return pio_from_bits((uint32_t)bits << 16 | quiet);
}

uint16_t pio_bf16_from_f32(float x) {
  uint32_t bits = pio_to_bits(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
