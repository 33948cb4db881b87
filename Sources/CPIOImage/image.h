/// What the files of this module share; not for others.
#ifndef PIO_IMAGE_INTERNAL_H
#define PIO_IMAGE_INTERNAL_H

#include <setjmp.h>

#include "CPIOImage.h"

enum { PIO_INPUT_BUFFER = 16384, PIO_EXIF_BUFFER = 65536 };

/// Bytes of a file or of memory, `left` of them at `next` without reading again.
struct pio_input {
  int fd;  // −1: memory, or a file that is closed again
  const uint8_t *next;
  size_t left;
  int failed_errno;  // of the read that failed; 0: the end was reached
};

struct pio_jpeg;
struct pio_png;

struct pio_image {
  struct pio_input input;
  const uint8_t *bytes;  // of an image in memory
  size_t count;
  struct pio_image_limits limits;
  struct pio_image_header header;
  struct pio_image_error *error;  // the current call's
  struct pio_jpeg *jpeg;
  struct pio_png *png;
  int decoded;
  jmp_buf escape;
  uint8_t *buffer;  // PIO_INPUT_BUFFER bytes while a codec reads a file
};

/// Reads on; 0 at the end or after a failed read.
int pio_input_refill(struct pio_image *image);

enum pio_image_code pio_fail(struct pio_image_error *error, enum pio_image_code code,
                             uint64_t needed, const char *message);

/// Code and message of an input that ended: truncated, or the failed read.
enum pio_image_code pio_fail_at_end(struct pio_image *image);

/// Size and pixel limits, against `image->header`.
enum pio_image_code pio_check_size(struct pio_image *image);

enum pio_image_code pio_jpeg_open(struct pio_image *image);
enum pio_image_code pio_jpeg_decode(struct pio_image *image, pio_image_row *row, void *context);
void pio_jpeg_close(struct pio_image *image);

enum pio_image_code pio_png_open(struct pio_image *image);
enum pio_image_code pio_png_decode(struct pio_image *image, pio_image_row *row, void *context);
void pio_png_close(struct pio_image *image);

/// `tiff:Orientation` in a block of XMP; 0 where there is none.
int pio_xmp_orientation(const uint8_t *bytes, size_t count);

#endif
