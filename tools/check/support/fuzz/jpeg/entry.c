// A JPEG from its first byte to its last row, under limits that keep a run short.
#include <stdlib.h>

#include "CPIOImage.h"

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
