// A PNG from its first byte to its last row, under limits that keep a run short. Mutations get
// their checksums repaired, or hardly any would come past the first chunk.
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "CPIOImage.h"

size_t LLVMFuzzerMutate(uint8_t *bytes, size_t count, size_t capacity);

struct sums {
  uint32_t width, next;
  uint64_t total;
};

/// Rows come in order, and every byte of them is there.
static void add(void *context, const uint8_t *rgb, uint32_t y) {
  struct sums *sums = context;
  if (y != sums->next++) abort();
  for (uint32_t i = 0; i < 3 * sums->width; i++) sums->total += rgb[i];
}

static uint32_t big_endian(const uint8_t *bytes) {
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t count, size_t capacity, unsigned seed) {
  count = LLVMFuzzerMutate(bytes, count, capacity);
  if (seed % 16 == 0) return count;
  for (size_t at = 8; at + 12 <= count;) {
    const uint32_t length = big_endian(bytes + at);
    if (length > count - at - 12) break;
    const uint32_t sum = (uint32_t)crc32(0, bytes + at + 4, length + 4);
    uint8_t *end = bytes + at + 8 + length;
    for (int i = 0; i < 4; i++) end[i] = (uint8_t)(sum >> (24 - 8 * i));
    at += 12 + (size_t)length;
  }
  return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count) {
  const struct pio_image_limits limits = {1 << 18, 1 << 14, 1 << 22};
  struct pio_image *image;
  struct pio_image_header header;
  struct pio_image_error error;
  if (pio_image_open_bytes(&image, bytes, count, &limits, &header, &error) != PIO_IMAGE_OK) {
    if (image != NULL || error.code == PIO_IMAGE_OK || error.message[0] == 0) abort();
    return 0;
  }
  if (header.orientation < 1 || header.orientation > 8) abort();
  struct sums sums = {header.width, 0, 0};
  if (pio_image_decode(image, add, &sums, &error) == PIO_IMAGE_OK) {
    if (sums.next != header.height) abort();
  } else if (error.message[0] == 0) {
    abort();
  }
  pio_image_close(image);
  return 0;
}
