#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"

struct pio_png {
  png_structp codec;
  png_infop info;
  png_bytep rows;
  size_t bytes_per_pixel;
  uint64_t bytes;    // on the heap now
  uint64_t refused;  // size of the first allocation that was not granted, with what was held
};

/// In front of every block, so that freeing can count; keeps the alignment malloc gives.
union block {
  uint64_t count;
  max_align_t align;
};

static png_voidp take(png_structp codec, png_alloc_size_t count) {
  struct pio_image *image = png_get_mem_ptr(codec);
  struct pio_png *png = image->png;
  const uint64_t limit = image->limits.max_codec_bytes;
  if (count > limit || png->bytes > limit - count) {
    if (png->refused == 0) png->refused = png->bytes + count;
    return NULL;
  }
  union block *block = malloc(sizeof *block + count);
  if (block == NULL) return NULL;
  block->count = count;
  png->bytes += count;
  return block + 1;
}

static void give(png_structp codec, png_voidp pointer) {
  struct pio_image *image = png_get_mem_ptr(codec);
  if (pointer == NULL) return;
  union block *block = (union block *)pointer - 1;
  image->png->bytes -= block->count;
  free(block);
}

static void escape_with_message(png_structp codec, png_const_charp message) {
  struct pio_image *image = png_get_error_ptr(codec);
  if (image->png->refused != 0) {
    pio_fail(image->error, PIO_IMAGE_NO_MEMORY, image->png->refused,
             image->header.whole_image ? "an interlaced PNG is decoded as a whole" : message);
  } else {
    pio_fail(image->error, PIO_IMAGE_DAMAGED, 0, message);
  }
  longjmp(image->escape, 1);
}

static void ignore_warning(png_structp codec, png_const_charp message) {
  (void)codec;
  (void)message;
}

static void read_bytes(png_structp codec, png_bytep out, size_t count) {
  struct pio_image *image = png_get_io_ptr(codec);
  while (count > 0) {
    if (image->input.left == 0 && !pio_input_refill(image)) {
      pio_fail_at_end(image);
      longjmp(image->escape, 1);
    }
    const size_t step = count < image->input.left ? count : image->input.left;
    memcpy(out, image->input.next, step);
    image->input.next += step;
    image->input.left -= step;
    out += step;
    count -= step;
  }
}

/// Chunks that say nothing about the pixels are skipped unread: text could be any size.
static void skip_other_chunks(png_structp codec) {
  static const png_byte names[] =
      "bKGD\0cHRM\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0sPLT\0sRGB\0tEXt\0tIME\0zT"
      "Xt";
  png_set_keep_unknown_chunks(codec, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
  png_set_keep_unknown_chunks(codec, PNG_HANDLE_CHUNK_NEVER, names, sizeof names / 5);
}

/// A grey or RGB image in which one colour means transparent: `convert("RGB")` keeps that colour,
/// but Hugging Face's processors then put white in its place.
static int has_color_key(struct pio_png *png) {
  const png_byte kind = png_get_color_type(png->codec, png->info);
  return (kind == PNG_COLOR_TYPE_GRAY || kind == PNG_COLOR_TYPE_RGB) &&
         png_get_valid(png->codec, png->info, PNG_INFO_tRNS) != 0;
}

static enum pio_image_code read_info(struct pio_image *image) {
  struct pio_png *png = image->png;
  png_set_read_fn(png->codec, image, read_bytes);
  // Our own limits, checked below, say more than libpng's.
  png_set_user_limits(png->codec, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_set_chunk_malloc_max(png->codec, image->limits.max_codec_bytes);
  png_set_crc_action(png->codec, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  skip_other_chunks(png->codec);
  png_read_info(png->codec, png->info);

  image->header.width = png_get_image_width(png->codec, png->info);
  image->header.height = png_get_image_height(png->codec, png->info);
  image->header.components = png_get_channels(png->codec, png->info);
  image->header.whole_image = png_get_interlace_type(png->codec, png->info) != PNG_INTERLACE_NONE;
  png_uint_32 count = 0;
  png_bytep exif = NULL;
  if (png_get_eXIf_1(png->codec, png->info, &count, &exif) != 0 && exif != NULL) {
    const int value = pio_exif_orientation(exif, count);
    if (value != 0) image->header.orientation = value;
  }
  return pio_check_size(image);
}

enum pio_image_code pio_png_open(struct pio_image *image) {
  image->png = calloc(1, sizeof *image->png);
  if (image->png == NULL) {
    return pio_fail(image->error, PIO_IMAGE_NO_MEMORY, sizeof *image->png, "out of memory");
  }
  image->header.format = PIO_IMAGE_PNG;
  if (setjmp(image->escape)) return image->error->code;
  image->png->codec = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, image, escape_with_message,
                                               ignore_warning, image, take, give);
  if (image->png->codec != NULL) image->png->info = png_create_info_struct(image->png->codec);
  if (image->png->info == NULL) {
    return pio_fail(image->error, PIO_IMAGE_NO_MEMORY, image->png->refused, "out of memory");
  }
  const enum pio_image_code code = read_info(image);
  if (code != PIO_IMAGE_OK || !image->header.whole_image) return code;
  const uint64_t needed =
      (uint64_t)image->header.width * image->header.height * (has_color_key(image->png) ? 4 : 3);
  if (needed <= image->limits.max_codec_bytes) return PIO_IMAGE_OK;
  return pio_fail(image->error, PIO_IMAGE_NO_MEMORY, needed,
                  "an interlaced PNG is decoded as a whole");
}

/// Everything becomes 8-bit RGB: expanded, the low byte of 16 bits and alpha dropped. With a colour
/// key: RGBA, alpha 0 where the key was.
static int choose_transforms(struct pio_png *png) {
  png->bytes_per_pixel = has_color_key(png) ? 4 : 3;
  png_set_expand(png->codec);
  png_set_strip_16(png->codec);
  if (png->bytes_per_pixel == 3) png_set_strip_alpha(png->codec);
  png_set_gray_to_rgb(png->codec);
  const int passes = png_set_interlace_handling(png->codec);
  png_read_update_info(png->codec, png->info);
  return passes;
}

/// RGBA to RGB in place.
static void whiten_transparent(uint8_t *row, uint32_t width) {
  uint8_t *out = row;
  for (uint32_t x = 0; x < width; x++, row += 4, out += 3) {
    const int shown = row[3] != 0;
    for (int c = 0; c < 3; c++) out[c] = shown ? row[c] : 255;
  }
}

static void read_rows(struct pio_image *image, int passes, pio_image_row *row, void *context) {
  struct pio_png *png = image->png;
  const uint32_t height = image->header.height;
  const size_t stride = png_get_rowbytes(png->codec, png->info);
  const uint32_t width = image->header.width;
  if (stride != (size_t)width * png->bytes_per_pixel) png_error(png->codec, "unexpected row size");
  png->rows = png_malloc(png->codec, passes > 1 ? stride * height : stride);
  for (int pass = 0; pass < passes - 1; pass++) {
    for (uint32_t y = 0; y < height; y++) {
      png_read_row(png->codec, png->rows + stride * y, NULL);
    }
  }
  for (uint32_t y = 0; y < height; y++) {
    png_bytep out = passes > 1 ? png->rows + stride * y : png->rows;
    png_read_row(png->codec, out, NULL);
    if (png->bytes_per_pixel == 4) whiten_transparent(out, width);
    row(context, out, y);
  }
}

enum pio_image_code pio_png_decode(struct pio_image *image, pio_image_row *row, void *context) {
  if (setjmp(image->escape)) return image->error->code;
  const int passes = choose_transforms(image->png);
  read_rows(image, passes, row, context);
  // To the last chunk, so that a file cut after its pixels is noticed too.
  png_read_end(image->png->codec, NULL);
  return PIO_IMAGE_OK;
}

void pio_png_close(struct pio_image *image) {
  struct pio_png *png = image->png;
  if (png == NULL) return;
  if (png->codec != NULL) {
    png_free(png->codec, png->rows);
    png_destroy_read_struct(&png->codec, &png->info, NULL);
  }
  free(png);
  image->png = NULL;
}
