#include <string.h>

#include "image.h"

static uint32_t number(const uint8_t *bytes, size_t count, int little) {
  uint32_t value = 0;
  for (size_t i = 0; i < count; i++) {
    value = value << 8 | bytes[little ? count - 1 - i : i];
  }
  return value;
}

/// A TIFF header (byte order, 42, offset of the first directory), then that directory: a count of
/// entries and 12 bytes for each (tag, type, count, value). Orientation is tag 0x0112.
/// Source: Exif 2.32 (CIPA DC-008), 4.6.2 and 4.6.4.
int pio_exif_orientation(const uint8_t *bytes, size_t count) {
  if (count < 8) return 0;
  const int little = memcmp(bytes, "II*\0", 4) == 0;
  if (!little && memcmp(bytes, "MM\0*", 4) != 0) return 0;
  const size_t directory = number(bytes + 4, 4, little);
  if (directory > count - 2 || directory < 8) return 0;
  const size_t entries = number(bytes + directory, 2, little);
  size_t at = directory + 2;
  for (size_t i = 0; i < entries && count - at >= 12; i++, at += 12) {
    if (number(bytes + at, 2, little) != 0x0112) continue;
    const uint32_t type = number(bytes + at + 2, 2, little);
    if (number(bytes + at + 4, 4, little) != 1) return 0;
    uint32_t value = 0;
    if (type == 1) value = bytes[at + 8];
    if (type == 3) value = number(bytes + at + 8, 2, little);
    if (type == 4) value = number(bytes + at + 8, 4, little);
    return value >= 1 && value <= 8 ? (int)value : 0;
  }
  return 0;
}

int pio_xmp_orientation(const uint8_t *bytes, size_t count) {
  static const char name[] = "tiff:Orientation";
  const size_t length = sizeof name - 1;
  for (size_t i = 0; i + length + 3 <= count; i++) {
    if (memcmp(bytes + i, name, length) != 0) continue;
    const uint8_t *rest = bytes + i + length;
    const int skip = rest[0] == '=' && rest[1] == '"' ? 2 : rest[0] == '>' ? 1 : 0;
    if (skip == 0 || rest[skip] < '0' || rest[skip] > '9') continue;
    const int value = rest[skip] - '0';
    return value >= 1 && value <= 8 ? value : 0;
  }
  return 0;
}
