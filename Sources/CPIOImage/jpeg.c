// libjpeg's header needs FILE and size_t declared before it.
// clang-format off
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include "image.h"

/// A progressive file may hold any number of scans, each a pass over the whole image: a small
/// file could keep us busy for hours. Real encoders write about ten.
enum { MAX_SCANS = 200 };

struct pio_jpeg {
  struct jpeg_decompress_struct codec;
  struct jpeg_error_mgr errors;
  struct jpeg_source_mgr source;
  struct jpeg_progress_mgr progress;
  int has_exif;
  uint8_t segment[PIO_EXIF_BUFFER];
};

static struct pio_image *owner(j_common_ptr codec) {
  return codec->client_data;
}

// --- errors ---

static void escape_with_message(j_common_ptr codec) {
  struct pio_image *image = owner(codec);
  char text[JMSG_LENGTH_MAX];
  codec->err->format_message(codec, text);
  enum pio_image_code code = PIO_IMAGE_DAMAGED;
  switch (codec->err->msg_code) {
    case JERR_OUT_OF_MEMORY:
    case JERR_NO_BACKING_STORE:
      code = PIO_IMAGE_NO_MEMORY;
      break;
    case JERR_SOF_UNSUPPORTED:
    case JERR_BAD_PRECISION:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_COMPONENT_COUNT:
    case JERR_ARITH_NOTIMPL:
    case JERR_NOTIMPL:
    case JERR_NOT_COMPILED:
      code = PIO_IMAGE_UNSUPPORTED;
      break;
    default:
      break;
  }
  pio_fail(image->error, code, 0, text);
  longjmp(image->escape, 1);
}

/// libjpeg goes on after broken data, with grey or smeared blocks, and only warns. An answer about
/// such an image would be about the damage, so these warnings end the decoding.
static void escape_on_damage(j_common_ptr codec, int level) {
  if (level >= 0) return;
  switch (codec->err->msg_code) {
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_JPEG_EOF:
    case JWRN_MUST_RESYNC:
      escape_with_message(codec);
      break;
    default:
      codec->err->num_warnings++;
  }
}

static void print_nothing(j_common_ptr codec) {
  (void)codec;
}

static void limit_scans(j_common_ptr codec) {
  struct pio_image *image = owner(codec);
  if (image->jpeg->codec.input_scan_number <= MAX_SCANS) return;
  pio_fail(image->error, PIO_IMAGE_DAMAGED, 0, "more than 200 scans");
  longjmp(image->escape, 1);
}

// --- input ---

static void do_nothing(j_decompress_ptr codec) {
  (void)codec;
}

static boolean fill(j_decompress_ptr codec) {
  struct pio_image *image = owner((j_common_ptr)codec);
  if (!pio_input_refill(image)) {
    pio_fail_at_end(image);
    longjmp(image->escape, 1);
  }
  codec->src->next_input_byte = image->input.next;
  codec->src->bytes_in_buffer = image->input.left;
  return TRUE;
}

static void skip(j_decompress_ptr codec, long count) {
  while (count > 0) {
    if (codec->src->bytes_in_buffer == 0) fill(codec);
    const size_t left = codec->src->bytes_in_buffer;
    const size_t step = (size_t)count < left ? (size_t)count : left;
    codec->src->next_input_byte += step;
    codec->src->bytes_in_buffer -= step;
    count -= (long)step;
  }
}

static unsigned next_byte(j_decompress_ptr codec) {
  if (codec->src->bytes_in_buffer == 0) fill(codec);
  codec->src->bytes_in_buffer--;
  return *codec->src->next_input_byte++;
}

// --- header ---

/// APP1: EXIF or XMP, read into one buffer of ours instead of being kept by libjpeg, whose list of
/// saved markers would grow with the file. EXIF goes before XMP, the first segment that says
/// something before later ones.
static boolean read_app1(j_decompress_ptr codec) {
  static const char xmp[] = "http://ns.adobe.com/xap/1.0/";
  struct pio_image *image = owner((j_common_ptr)codec);
  struct pio_jpeg *jpeg = image->jpeg;
  const unsigned high = next_byte(codec);
  const unsigned length = high << 8 | next_byte(codec);
  if (length < 2) ERREXIT(codec, JERR_BAD_LENGTH);
  const size_t count = length - 2;
  for (size_t i = 0; i < count; i++) jpeg->segment[i] = (uint8_t)next_byte(codec);

  if (count > 6 && memcmp(jpeg->segment, "Exif\0\0", 6) == 0 && !jpeg->has_exif) {
    const int value = pio_exif_orientation(jpeg->segment + 6, count - 6);
    if (value != 0) {
      image->header.orientation = value;
      jpeg->has_exif = 1;
    }
  } else if (count > sizeof xmp && memcmp(jpeg->segment, xmp, sizeof xmp) == 0) {
    const int value = pio_xmp_orientation(jpeg->segment + sizeof xmp, count - sizeof xmp);
    if (value != 0 && !jpeg->has_exif && image->header.orientation == 1) {
      image->header.orientation = value;
    }
  }
  return TRUE;
}

/// Heap that libjpeg will ask for: the row group buffers, and for several scans all coefficients
/// (2 bytes each, in blocks of 64).
static uint64_t codec_bytes(const struct jpeg_decompress_struct *codec, int whole_image) {
  uint64_t bytes = 65536;
  for (int i = 0; i < codec->num_components; i++) {
    const jpeg_component_info *part = &codec->comp_info[i];
    const uint64_t h = (uint64_t)part->h_samp_factor, v = (uint64_t)part->v_samp_factor;
    const uint64_t columns = (part->width_in_blocks + h - 1) / h * h;
    const uint64_t rows = (part->height_in_blocks + v - 1) / v * v;
    bytes += columns * 8 * 10 * v;                                               // row groups
    bytes += (uint64_t)codec->image_width * (uint64_t)codec->max_v_samp_factor;  // upsampled
    bytes += (uint64_t)codec->image_width;                                       // the row
    if (whole_image) bytes += columns * rows * DCTSIZE2 * sizeof(JCOEF);
  }
  return bytes;
}

static enum pio_image_code check_memory(struct pio_image *image) {
  const uint64_t needed = codec_bytes(&image->jpeg->codec, image->header.whole_image);
  if (needed <= image->limits.max_codec_bytes) return PIO_IMAGE_OK;
  return pio_fail(image->error, PIO_IMAGE_NO_MEMORY, needed,
                  image->header.whole_image ? "a progressive JPEG is decoded as a whole"
                                            : "rows too long for the decoder's memory");
}

enum pio_image_code pio_jpeg_open(struct pio_image *image) {
  struct pio_jpeg *jpeg = calloc(1, sizeof *jpeg);
  if (jpeg == NULL) return pio_fail(image->error, PIO_IMAGE_NO_MEMORY, sizeof *jpeg, "no memory");
  image->jpeg = jpeg;
  image->header.format = PIO_IMAGE_JPEG;
  struct jpeg_decompress_struct *codec = &jpeg->codec;
  codec->err = jpeg_std_error(&jpeg->errors);
  jpeg->errors.error_exit = escape_with_message;
  jpeg->errors.emit_message = escape_on_damage;
  jpeg->errors.output_message = print_nothing;
  codec->client_data = image;
  if (setjmp(image->escape)) return image->error->code;

  jpeg_create_decompress(codec);
  codec->client_data = image;
  jpeg->source.init_source = do_nothing;
  jpeg->source.fill_input_buffer = fill;
  jpeg->source.skip_input_data = skip;
  jpeg->source.resync_to_restart = jpeg_resync_to_restart;
  jpeg->source.term_source = do_nothing;
  jpeg->source.next_input_byte = image->input.next;
  jpeg->source.bytes_in_buffer = image->input.left;
  codec->src = &jpeg->source;
  jpeg->progress.progress_monitor = limit_scans;
  codec->progress = &jpeg->progress;
  const uint64_t heap = image->limits.max_codec_bytes;
  codec->mem->max_memory_to_use = heap > LONG_MAX ? LONG_MAX : (long)heap;
  jpeg_set_marker_processor(codec, JPEG_APP0 + 1, read_app1);
  jpeg_read_header(codec, TRUE);

  image->header.width = codec->image_width;
  image->header.height = codec->image_height;
  image->header.components = codec->num_components;
  image->header.whole_image = jpeg_has_multiple_scans(codec);
  if (codec->num_components != 1 && codec->num_components != 3 && codec->num_components != 4) {
    return pio_fail(image->error, PIO_IMAGE_UNSUPPORTED, 0, "a JPEG of two colour components");
  }
  const enum pio_image_code code = pio_check_size(image);
  return code == PIO_IMAGE_OK ? check_memory(image) : code;
}

// --- rows ---

/// a·b/255, rounded, for bytes.
static unsigned times(unsigned a, unsigned b) {
  const unsigned product = a * b + 128;
  return (product + (product >> 8)) >> 8;
}

/// Inverted CMYK (255: no ink) to RGB in place: the light that ink lets through, times that of
/// black.
static void cmyk_to_rgb(uint8_t *row, uint32_t width) {
  uint8_t *out = row;
  for (uint32_t x = 0; x < width; x++, row += 4, out += 3) {
    const unsigned black = row[3];
    for (int c = 0; c < 3; c++) {
      out[c] = (uint8_t)(black - times(255 - row[c], black));
    }
  }
}

enum pio_image_code pio_jpeg_decode(struct pio_image *image, pio_image_row *row, void *context) {
  struct jpeg_decompress_struct *codec = &image->jpeg->codec;
  if (setjmp(image->escape)) return image->error->code;
  const int cmyk = codec->num_components == 4;
  codec->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  codec->dct_method = JDCT_ISLOW;
  jpeg_start_decompress(codec);
  const JDIMENSION stride = codec->output_width * (JDIMENSION)codec->output_components;
  JSAMPARRAY rows = codec->mem->alloc_sarray((j_common_ptr)codec, JPOOL_IMAGE, stride, 1);
  while (codec->output_scanline < codec->output_height) {
    const uint32_t y = codec->output_scanline;
    if (jpeg_read_scanlines(codec, rows, 1) != 1) continue;
    if (cmyk) cmyk_to_rgb(rows[0], codec->output_width);
    row(context, rows[0], y);
  }
  jpeg_finish_decompress(codec);
  return PIO_IMAGE_OK;
}

void pio_jpeg_close(struct pio_image *image) {
  if (image->jpeg == NULL) return;
  jpeg_destroy_decompress(&image->jpeg->codec);
  free(image->jpeg);
  image->jpeg = NULL;
}
