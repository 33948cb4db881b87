#define _POSIX_C_SOURCE 200809L

#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

enum pio_image_code pio_fail(struct pio_image_error *error, enum pio_image_code code,
                             uint64_t needed, const char *message) {
  error->code = code;
  error->system_errno = 0;
  error->needed = needed;
  snprintf(error->message, sizeof error->message, "%s", message);
  return code;
}

enum pio_image_code pio_fail_at_end(struct pio_image *image) {
  if (image->input.failed_errno == 0) {
    return pio_fail(image->error, PIO_IMAGE_TRUNCATED, 0, "the file ends before the image does");
  }
  pio_fail(image->error, PIO_IMAGE_CANNOT_OPEN, 0, "cannot read");
  image->error->system_errno = image->input.failed_errno;
  return PIO_IMAGE_CANNOT_OPEN;
}

int pio_input_refill(struct pio_image *image) {
  struct pio_input *input = &image->input;
  if (input->fd < 0) return 0;
  ssize_t count;
  do {
    count = read(input->fd, image->buffer, PIO_INPUT_BUFFER);
  } while (count < 0 && errno == EINTR);
  if (count < 0) input->failed_errno = errno;
  input->next = image->buffer;
  input->left = count > 0 ? (size_t)count : 0;
  return count > 0;
}

enum pio_image_code pio_check_size(struct pio_image *image) {
  const uint32_t width = image->header.width, height = image->header.height;
  if (width == 0 || height == 0) {
    return pio_fail(image->error, PIO_IMAGE_DAMAGED, 0, "an image of no pixels");
  }
  // The product of two 32-bit numbers fits 64 bits.
  const uint64_t pixels = (uint64_t)width * height;
  if (pixels > image->limits.max_pixels) {
    return pio_fail(image->error, PIO_IMAGE_TOO_LARGE, pixels, "more pixels than the limit");
  }
  const uint32_t edge = width > height ? width : height;
  if (edge > image->limits.max_edge) {
    return pio_fail(image->error, PIO_IMAGE_EDGE_TOO_LONG, edge, "an edge above the limit");
  }
  return PIO_IMAGE_OK;
}

/// What the first bytes are when they are no JPEG or PNG: the formats people try are named.
static const char *foreign_format(const uint8_t *bytes, size_t count) {
  if (count == 0) return "the file is empty";
  if (count >= 4 && memcmp(bytes, "GIF8", 4) == 0) return "a GIF; JPEG and PNG are read";
  if (count >= 12 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0) {
    return "a WebP; JPEG and PNG are read";
  }
  if (count >= 8 && memcmp(bytes + 4, "ftyp", 4) == 0) {
    return "an HEIC, AVIF or video file; JPEG and PNG are read";
  }
  if (count >= 4 && (memcmp(bytes, "II*\0", 4) == 0 || memcmp(bytes, "MM\0*", 4) == 0)) {
    return "a TIFF; JPEG and PNG are read";
  }
  if (count >= 2 && memcmp(bytes, "BM", 2) == 0) return "a BMP; JPEG and PNG are read";
  return "neither a JPEG nor a PNG";
}

/// Reads the header from the start of the input, and leaves the codec behind it.
static enum pio_image_code read_header(struct pio_image *image) {
  static const uint8_t png_magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  struct pio_input *input = &image->input;
  input->next = image->bytes;
  input->left = image->count;
  image->header = (struct pio_image_header){.orientation = 1};
  if (input->fd >= 0) {
    image->buffer = malloc(PIO_INPUT_BUFFER);
    if (image->buffer == NULL) {
      return pio_fail(image->error, PIO_IMAGE_NO_MEMORY, PIO_INPUT_BUFFER, "out of memory");
    }
    if (lseek(input->fd, 0, SEEK_SET) != 0) input->failed_errno = errno;
  }
  if (input->failed_errno != 0) return pio_fail_at_end(image);
  if (input->left == 0 && !pio_input_refill(image) && input->failed_errno != 0) {
    return pio_fail_at_end(image);
  }
  if (input->left >= 8 && memcmp(input->next, png_magic, 8) == 0) return pio_png_open(image);
  if (input->left >= 3 && memcmp(input->next, "\xff\xd8\xff", 3) == 0) return pio_jpeg_open(image);
  return pio_fail(image->error, PIO_IMAGE_UNKNOWN, 0, foreign_format(input->next, input->left));
}

/// Gives back what the codec has taken.
static void end_reading(struct pio_image *image) {
  pio_jpeg_close(image);
  pio_png_close(image);
  free(image->buffer);
  image->buffer = NULL;
#ifdef __GLIBC__
  // It goes to the system, not to a heap that only another image would use.
  if (image->limits.trims_heap) malloc_trim(0);
#endif
}

static void close_file(struct pio_image *image) {
  if (image->input.fd >= 0) close(image->input.fd);
  image->input.fd = -1;
}

static enum pio_image_code open_input(struct pio_image **out, int fd, const uint8_t *bytes,
                                      size_t count, const struct pio_image_limits *limits,
                                      struct pio_image_header *header,
                                      struct pio_image_error *error) {
  struct pio_image *image = calloc(1, sizeof *image);
  if (image == NULL) {
    if (fd >= 0) close(fd);
    return pio_fail(error, PIO_IMAGE_NO_MEMORY, sizeof *image, "out of memory");
  }
  image->input.fd = fd;
  image->bytes = bytes;
  image->count = count;
  image->limits = *limits;
  image->error = error;
  const enum pio_image_code code = read_header(image);
  end_reading(image);
  *header = image->header;
  if (code == PIO_IMAGE_OK) {
    *out = image;
  } else {
    pio_image_close(image);
  }
  return code;
}

static void start(struct pio_image **image, struct pio_image_header *header,
                  struct pio_image_error *error) {
  *image = NULL;
  memset(header, 0, sizeof *header);
  memset(error, 0, sizeof *error);
}

static enum pio_image_code fail_with_errno(struct pio_image_error *error, const char *what) {
  const int number = errno;
  pio_fail(error, PIO_IMAGE_CANNOT_OPEN, 0, what);
  error->system_errno = number;
  return PIO_IMAGE_CANNOT_OPEN;
}

enum pio_image_code pio_image_open(struct pio_image **image, const char *path,
                                   const struct pio_image_limits *limits,
                                   struct pio_image_header *header, struct pio_image_error *error) {
  start(image, header, error);
  struct stat status;
  // Looked at first, since opening a device can have effects; and again once it is open.
  if (stat(path, &status) != 0) return fail_with_errno(error, "cannot open");
  if (!S_ISREG(status.st_mode)) {
    return pio_fail(error, PIO_IMAGE_NOT_A_FILE, 0, "not a regular file");
  }
  // O_NONBLOCK: a pipe put there meanwhile does not make us wait for its writer.
  const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return fail_with_errno(error, "cannot open");
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    return pio_fail(error, PIO_IMAGE_NOT_A_FILE, 0, "not a regular file");
  }
  return open_input(image, fd, NULL, 0, limits, header, error);
}

enum pio_image_code pio_image_open_bytes(struct pio_image **image, const uint8_t *bytes,
                                         size_t count, const struct pio_image_limits *limits,
                                         struct pio_image_header *header,
                                         struct pio_image_error *error) {
  start(image, header, error);
  return open_input(image, -1, bytes, count, limits, header, error);
}

static int is_same(const struct pio_image_header *a, const struct pio_image_header *b) {
  return a->format == b->format && a->width == b->width && a->height == b->height &&
         a->components == b->components && a->orientation == b->orientation &&
         a->whole_image == b->whole_image;
}

static enum pio_image_code decode(struct pio_image *image, pio_image_row *row, void *context) {
  const struct pio_image_header first = image->header;
  const enum pio_image_code code = read_header(image);
  if (code != PIO_IMAGE_OK) return code;
  if (!is_same(&image->header, &first)) {
    return pio_fail(image->error, PIO_IMAGE_DAMAGED, 0, "the file was changed while it was open");
  }
  return image->jpeg != NULL ? pio_jpeg_decode(image, row, context)
                             : pio_png_decode(image, row, context);
}

enum pio_image_code pio_image_decode(struct pio_image *image, pio_image_row *row, void *context,
                                     struct pio_image_error *error) {
  memset(error, 0, sizeof *error);
  image->error = error;
  if (image->decoded) return pio_fail(error, PIO_IMAGE_DAMAGED, 0, "already decoded");
  image->decoded = 1;
  const enum pio_image_code code = decode(image, row, context);
  end_reading(image);
  close_file(image);
  return code;
}

void pio_image_close(struct pio_image *image) {
  if (image == NULL) return;
  close_file(image);
  free(image);
}
