#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include "image.h"

struct writer {
  pio_image_sink *sink;
  void *context;
  struct pio_image_error *error;
  jmp_buf escape;
};

static void escape_with_message(png_structp codec, png_const_charp message) {
  struct writer *writer = png_get_error_ptr(codec);
  pio_fail(writer->error, PIO_IMAGE_DAMAGED, 0, message);
  longjmp(writer->escape, 1);
}

static void ignore_warning(png_structp codec, png_const_charp message) {
  (void)codec;
  (void)message;
}

static void write_bytes(png_structp codec, png_bytep bytes, size_t count) {
  struct writer *writer = png_get_io_ptr(codec);
  if (writer->sink(writer->context, bytes, count) != 0) png_error(codec, "cannot write");
}

static void flush_nothing(png_structp codec) {
  (void)codec;
}

enum pio_image_code pio_png_write(pio_image_sink *sink, void *context, const uint8_t *rgb,
                                  uint32_t width, uint32_t height, size_t stride,
                                  struct pio_image_error *error) {
  memset(error, 0, sizeof *error);
  struct writer writer = {.sink = sink, .context = context, .error = error};
  png_structp codec =
      png_create_write_struct(PNG_LIBPNG_VER_STRING, &writer, escape_with_message, ignore_warning);
  png_infop info = codec != NULL ? png_create_info_struct(codec) : NULL;
  if (info == NULL) {
    png_destroy_write_struct(&codec, NULL);
    return pio_fail(error, PIO_IMAGE_NO_MEMORY, 0, "out of memory");
  }
  if (setjmp(writer.escape)) {
    png_destroy_write_struct(&codec, &info);
    return error->code;
  }
  png_set_write_fn(codec, &writer, write_bytes, flush_nothing);
  png_set_IHDR(codec, info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(codec, info);
  for (uint32_t y = 0; y < height; y++) png_write_row(codec, rgb + stride * y);
  png_write_end(codec, info);
  png_destroy_write_struct(&codec, &info);
  return PIO_IMAGE_OK;
}
