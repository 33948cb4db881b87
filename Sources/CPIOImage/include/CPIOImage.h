/// JPEG and PNG images as rows of 8-bit RGB, decoded by libjpeg and libpng.
///
/// An image is opened (header only, nothing proportional to it allocated), held against the
/// limits, then decoded from the first row to the last into a callback. Every failure is a code and
/// one line of text; no `longjmp` leaves this module. What the codecs take from the heap stays
/// under `max_codec_bytes`, and is given back before a call returns: an image that is open costs a
/// descriptor and some hundred bytes.
#ifndef CPIOIMAGE_H
#define CPIOIMAGE_H

#include <stddef.h>
#include <stdint.h>

enum pio_image_code {
  PIO_IMAGE_OK = 0,
  PIO_IMAGE_CANNOT_OPEN = 1,    // `system_errno` says why
  PIO_IMAGE_NOT_A_FILE = 2,     // a folder, a pipe, a device
  PIO_IMAGE_UNKNOWN = 3,        // neither JPEG nor PNG by its first bytes
  PIO_IMAGE_TRUNCATED = 4,      // the file ends before the image does
  PIO_IMAGE_DAMAGED = 5,        // the codec's own complaint
  PIO_IMAGE_UNSUPPORTED = 6,    // a kind of JPEG or PNG the codec cannot decode
  PIO_IMAGE_TOO_LARGE = 7,      // more pixels than `max_pixels`: `needed` is their count
  PIO_IMAGE_EDGE_TOO_LONG = 8,  // an edge above `max_edge`: `needed` is the longer edge
  PIO_IMAGE_NO_MEMORY = 9,      // the codec would need `needed` bytes (0: unknown) of heap
};

enum pio_image_format { PIO_IMAGE_JPEG = 1, PIO_IMAGE_PNG = 2 };

struct pio_image_error {
  enum pio_image_code code;
  int system_errno;
  uint64_t needed;
  char message[200];  // NUL-terminated, one line
};

struct pio_image_limits {
  uint64_t max_pixels;
  uint32_t max_edge;
  uint64_t max_codec_bytes;
  int trims_heap;  // what the codec gives back goes on to the system (glibc's malloc_trim)
};

/// What stands before the pixels. Width and height are those of the stored rows: orientations 5 to
/// 8 swap them.
struct pio_image_header {
  enum pio_image_format format;
  uint32_t width;
  uint32_t height;
  int components;   // per pixel as stored: 1 to 4
  int orientation;  // EXIF, 1 to 8; 1 where the image says nothing
  int whole_image;  // progressive, several scans or interlaced: the codec holds the whole image
};

struct pio_image;

/// Receives stored row `y` (ascending from 0): `width` pixels of 3 bytes, valid for the call.
typedef void pio_image_row(void *context, const uint8_t *rgb, uint32_t y);

/// Opens a regular file and reads its header. On success `*image` is to be closed by the caller; on
/// failure it is NULL and `header` holds what was read so far (zero where nothing was).
/// A pipe, a folder or a device is refused without waiting for it.
enum pio_image_code pio_image_open(struct pio_image **image, const char *path,
                                   const struct pio_image_limits *limits,
                                   struct pio_image_header *header, struct pio_image_error *error);

/// The same over `count` bytes in memory, which must outlive the image.
enum pio_image_code pio_image_open_bytes(struct pio_image **image, const uint8_t *bytes,
                                         size_t count, const struct pio_image_limits *limits,
                                         struct pio_image_header *header,
                                         struct pio_image_error *error);

/// Decodes every row, once per opened image; its file is closed then. Colours become RGB: grey is
/// repeated, palettes looked up, 16-bit samples lose their low byte, alpha and tRNS are dropped,
/// CMYK (stored inverted, Adobe's way) becomes (255 − K)·(255 − C)/255 and so on, rounded. On
/// failure some rows may already have been delivered. A file that ends early, or whose
/// entropy-coded data is broken, is a failure and not grey; so is one whose header is another than
/// it was when it was opened.
enum pio_image_code pio_image_decode(struct pio_image *image, pio_image_row *row, void *context,
                                     struct pio_image_error *error);

/// NULL is fine.
void pio_image_close(struct pio_image *image);

/// The orientation in a block of EXIF data ("II*\0" or "MM\0*" first); 0 where there is none.
int pio_exif_orientation(const uint8_t *bytes, size_t count);

/// Receives a piece of an encoded file; returns 0 to go on.
typedef int pio_image_sink(void *context, const uint8_t *bytes, size_t count);

/// Encodes `height` rows of `width` RGB pixels, `stride` bytes apart, as an 8-bit PNG.
enum pio_image_code pio_png_write(pio_image_sink *sink, void *context, const uint8_t *rgb,
                                  uint32_t width, uint32_t height, size_t stride,
                                  struct pio_image_error *error);

/// The same into a new file at `path` (an existing one is replaced); removed again on failure.
enum pio_image_code pio_png_write_file(const char *path, const uint8_t *rgb, uint32_t width,
                                       uint32_t height, size_t stride,
                                       struct pio_image_error *error);

#endif
