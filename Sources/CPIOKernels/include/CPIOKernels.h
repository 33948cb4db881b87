// The kernels' contracts. Shapes are (rows, columns), row-major unless said otherwise; a stride
// counts elements from one row to the next. Pointers must not overlap unless said otherwise and
// need no alignment beyond their element's; nothing behind the stated shapes is read or written.
// Nothing here allocates, starts threads, keeps state or fails: callers check shapes. Stack: below
// 64 KiB.
//
// `pio_kernels_best` reads the CPU once; every table returns the same bits for the integer products
// (see `pio_gemm`), and float results within the bounds stated at each function.
#ifndef CPIOKERNELS_H
#define CPIOKERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "CPIOGradients.h"
#include "CPIOLimits.h"

// Weight codes of a matrix in kernel layout. The numbers are those of the file format.
enum pio_quant { PIO_INT8 = 3, PIO_INT4 = 4, PIO_INT4_AFFINE = 5 };

// W (rows, cols) in blocks of 16 rows x `group` columns, row-blocks outermost, groups ascending.
// A block: `group / 32` sub-blocks of 32 columns, then 16 f16 scales, then (affine) 16 f16 minima.
//   int4 sub-block, 256 bytes: byte 64*j + 4*r + i has column 4*j+i of row r in its low nibble and
//   column 16+4*j+i in its high nibble (j, i in 0..3): w = scale * (code - 8), affine: scale * code
//   + min. int8 sub-block, 512 bytes: byte 64*j + 4*r + i has column 4*j+i of row r (j in 0..7): w
//   = scale * (code - 128).
// Missing rows (up to 16) and columns (up to the group) are code 8, 128 or (affine) 0; missing
// rows' scales and minima are 0.
struct pio_matrix {
  const uint8_t *blocks;
  size_t rows, cols;
  uint32_t group;  // 32, 64 or 128
  uint32_t quant;  // enum pio_quant
};

// X (tokens, cols) quantized per token and group: x = scale * value, value in -127...127.
struct pio_activations {
  int8_t *values;  // (tokens, padded cols): cols rounded up to the group, zeros behind
  float *scales;   // (tokens, groups)
  int32_t *sums;   // (tokens, groups): the sum of the values
};

// Bytes of one block of 16 rows x `group` columns.
size_t pio_block_bytes(uint32_t quant, uint32_t group);

// Packs one block from codes (16, group), 16 scales and, affine, 16 minima (f16 bits).
void pio_pack_block(uint8_t *block, const uint8_t *codes, const uint16_t *scales,
                    const uint16_t *minima, uint32_t quant, uint32_t group);

// Rows row_begin..row_end of W as f32 (row_end - row_begin, cols), stride `stride`.
// int8, int4: scale * (code - zero); affine: fmaf(code, scale, minimum).
void pio_dequantize_rows(float *out, size_t stride, const struct pio_matrix *w, size_t row_begin,
                         size_t row_end);

float pio_f16_to_f32(uint16_t bits);
uint16_t pio_f16_from_f32(float x);  // to nearest even; overflow gives infinity
float pio_bf16_to_f32(uint16_t bits);
uint16_t pio_bf16_from_f32(float x);  // to nearest even

// Element kinds of keys, values and float weights.
enum pio_float { PIO_F32 = 0, PIO_F16 = 1, PIO_BF16 = 2, PIO_KV_INT8 = 3 };

// One KV head of one layer: keys and values (capacity, head_dim), contiguous.
// int8: x = scale * value, one scale for each position and head, values in -127...127.
struct pio_kv {
  void *keys, *values;               // f32, f16 bits or int8
  float *key_scales, *value_scales;  // (capacity), int8 only
  uint32_t kind;                     // PIO_F32, PIO_F16 or PIO_KV_INT8
  uint32_t head_dim;
};

// Activations for `pio_gemm`, rounded to nearest even: scale = max|x| / 127 over the group, value =
// x / scale clamped to +-127; an all-zero group, or one whose scale would underflow, has scale 0.
// A group with a NaN or infinity gets scale NaN, values 0, so that what it touches is NaN. `group`
// is that of the weights; x: (tokens, cols), stride `stride`. Every ISA returns these bits.
typedef void pio_quantize(struct pio_activations out, const float *x, size_t stride, size_t tokens,
                          size_t cols, uint32_t group);

// y = X W^T (+ bias) for tokens t in [0, tokens) and rows of blocks [block_begin, block_end) (16
// rows each; rows past w->rows are not written). Groups ascending, from acc = 0:
//   sum = the group's sum of (code - zero) * value, int32 (affine: code * value)
//   acc = fmaf((float)sum, weight_scale * input_scale, acc)
//   affine, then: acc = fmaf(minimum, input_scale * (float)input_sum, acc)
// then acc + bias[row] where bias is not NULL, and where `accumulate` y + that. Every ISA, tile and
// thread count returns these bits. y: (tokens, rows), stride y_stride.
typedef void pio_gemm(float *y, size_t y_stride, const struct pio_matrix *w,
                      struct pio_activations x, size_t tokens, size_t block_begin, size_t block_end,
                      const float *bias, int accumulate);

// y = X W^T (+ bias) in f32; w: (rows, cols) f32. The twin of sgemm, and what runs without
// OpenBLAS. Error: the usual bound of a dot product, cols * 2^-24 * sum|x w|.
typedef void pio_gemm_f32(float *y, size_t y_stride, const float *w, size_t w_stride,
                          const float *x, size_t x_stride, size_t tokens, size_t rows, size_t cols,
                          const float *bias, int accumulate);

// out[i] = weight[i] * x[i] / sqrt(mean(x^2) + epsilon). out may be x. Relative error
// below (dim + 16) * 2^-24. Zhang & Sennrich 2019.
typedef void pio_rms_norm(float *out, const float *x, const float *weight, float epsilon,
                          size_t dim);

// out[i] = weight[i] * (x[i] - mean) / sqrt(variance + epsilon) + bias[i]. out may be x.
// Error below (dim + 16) * 2^-24 * (|weight[i]| (|z| + max|x| / deviation) + |bias[i]|), z the
// normalized number. Ba et al. 2016.
typedef void pio_layer_norm(float *out, const float *x, const float *weight, const float *bias,
                            float epsilon, size_t dim);

// Rotates `heads` heads of one row in place, halves paired (i, i + head_dim/2), by the angles whose
// cosines and sines (head_dim/2) are given; the same bits on every ISA. Su et al. 2021, in the
// layout of Llama's Hugging Face weights.
typedef void pio_rope(float *x, const float *cosines, const float *sines, size_t heads,
                      size_t head_dim);

// gate[i] = gate[i] * sigmoid(gate[i]) * up[i]. Relative error below 2^-21, or 1e-35 absolute, for
// finite numbers; the same bits on every ISA, NaN gives NaN. exp is a polynomial of degree 6, its
// relative error below 2^-23. Shazeer 2020.
typedef void pio_silu_mul(float *gate, const float *up, size_t count);

// x[i] = activation(x[i]); kind: 0 gelu (erf), 1 gelu (tanh), 2 quick gelu: x * sigmoid(1.702 x).
// Error below 2^-21 |x| for finite x; the same bits on every ISA, NaN gives NaN. Hendrycks & Gimpel
// 2016.
typedef void pio_activate(float *x, size_t count, int kind);

// y[i] += x[i].
typedef void pio_add(float *y, const float *x, size_t count);

// Writes one position's key and value (head_dim) of one head, converted to the cache's kind: f16 to
// nearest even, int8 as `pio_quantize` does a group. The same bits on every ISA.
typedef void pio_kv_store(const struct pio_kv *kv, size_t position, const float *key,
                          const float *value);

// Attention of `rows` query rows x `heads` query heads that share one KV head:
//   out[t][h] = softmax(scale * q[t][h] . K[j], j < visible(t)) V,   visible(t) = first_visible + t
//   * step
// (step 1: causal, 0: bidirectional). q, out: row t at t * stride, head h at h * head_dim behind
// it. Online softmax in f32 over tiles of keys; scratch: `pio_attention_scratch(head_dim)` floats.
// out may be q, with the same strides. 1 <= visible(t) < 2^24 for every row. Keys and values at or
// behind the last row's visible(t) are not read; before it, a NaN or infinity in one may reach
// every row of the call. Absolute error below max|V| * 2^-23 * (head_dim * S + visible(t) + 8), S
// the largest scale * sum|q k|, against exact arithmetic on the same cache. Dao et al. 2022
// (arXiv:2205.14135).
typedef void pio_attention(float *out, size_t out_stride, const float *q, size_t q_stride,
                           const struct pio_kv *kv, size_t rows, size_t heads, size_t first_visible,
                           size_t step, float scale, float *scratch);
size_t pio_attention_scratch(size_t head_dim);

// A part of one row's attention: the keys [begin, end) alone, for `heads` query heads that share
// the KV head. part: (heads, head_dim + 2): the sums of exp(score - maximum) V, then the maximum
// and the sum of exp(score - maximum). q: (heads, head_dim). So the keys of a long past can be
// given to several threads. begin < end.
typedef void pio_attention_part(float *part, const float *q, const struct pio_kv *kv, size_t heads,
                                size_t begin, size_t end, float scale, float *scratch);

// Puts `parts` parts, `part_stride` floats apart, together: out (heads, head_dim) is what
// `pio_attention` gives for all their keys, within the same bound. A part's keys are in order.
void pio_attention_merge(float *out, const float *parts, size_t part_stride, size_t count,
                         size_t heads, size_t head_dim);

// Attention of `rows` query rows of one head, every one of which sees every key, in an encoder:
//   out[t] = softmax(scale * q[t] . K[j], j < count) V
// kv: f32, head_dim even and at most PIO_ALL_DIM. q, out: (rows, head_dim); out may be q, with the
// same strides. Queries, keys, values and probabilities are rounded to whole numbers of 13, 13, 11
// and 15 bits where that is faster (x86), else it is `pio_attention` in f32. scratch:
// `pio_attention_all_scratch(head_dim)` floats. Rows without a number of 2^-100 count as 0. A NaN
// or infinity in a key or value may reach every row, one in a query its own. Absolute error below
//   max|V| * (exp(2 D) - 1 + 2^-10 + count * 2^-15), D = scale * head_dim * max|q| max|K| * 2^-12.
// Whole numbers in attention: Zhang et al. 2024 (arXiv:2410.02367), with 8 bits.
enum { PIO_ALL_DIM = 128, PIO_ALL_ROWS = 128 };  // rows in multiples of this are fastest
typedef void pio_attention_all(float *out, size_t out_stride, const float *q, size_t q_stride,
                               const struct pio_kv *kv, size_t rows, size_t count, float scale,
                               float *scratch);
size_t pio_attention_all_scratch(size_t head_dim);

// The probabilities of `heads` query heads of one row, neighbours that share one KV head: out[h][j]
// = softmax(scale * q[h] . K[j], j < visible)[j], what pruning by attention received asks for.
// q: (heads, head_dim); out: (heads, visible), stride out_stride. Values are not read; 1 <= visible
// < 2^24. A NaN or infinity in a key or query makes its head's probabilities NaN. Relative error
// below 2^-22 * (head_dim * S + visible + 8), S as at `pio_attention`, of numbers above 1e-35.
typedef void pio_attention_probabilities(float *out, size_t out_stride, const float *q,
                                         const struct pio_kv *kv, size_t heads, size_t visible,
                                         float scale, float *scratch);

// The index of the greatest of x, the first of equals; `count` where one is a NaN or infinite.
typedef size_t pio_argmax(const float *x, size_t count);

// Writes the indices of the numbers >= threshold, ascending, and returns how many there are; where
// there are more than `most`, something above it, and the first `most` are written.
typedef size_t pio_at_least(int32_t *out, const float *x, size_t count, float threshold,
                            size_t most);

// x[i] = exp((x[i] - maximum) * factor), relative error below 2^-21 * (1 + |argument|); exp as at
// `pio_silu_mul`, the same bits on every ISA; below 2^-126 it is 0.
typedef void pio_exp_run(float *x, size_t count, float maximum, float factor);

// f16 or bf16 bits to f32, exactly.
typedef void pio_widen(float *out, const uint16_t *x, size_t count);

struct pio_kernels {
  const char *isa;
  pio_quantize *quantize;
  pio_gemm *gemm;
  pio_gemm_f32 *gemm_f32;
  pio_rms_norm *rms_norm;
  pio_layer_norm *layer_norm;
  pio_rope *rope;
  pio_silu_mul *silu_mul;
  pio_activate *activate;
  pio_add *add;
  pio_kv_store *kv_store;
  pio_attention *attention;
  pio_attention_part *attention_part;
  pio_attention_all *attention_all;
  pio_attention_probabilities *attention_probabilities;
  pio_argmax *argmax;
  pio_at_least *at_least;
  pio_exp_run *exp;
  pio_widen *f16_to_f32;
  pio_widen *bf16_to_f32;
  struct pio_gradients gradients;
};

const struct pio_kernels *pio_kernels_scalar(void);  // the oracle, always there
const struct pio_kernels *pio_kernels_best(void);    // what this CPU runs fastest
// Those that this CPU and this build can run, the scalar one first; NULL behind the last.
const struct pio_kernels *pio_kernels_runnable(size_t index);
// The one of that name (`isa.h`), or NULL where this CPU or this build lacks it.
const struct pio_kernels *pio_kernels_named(const char *isa);

// Runs a table's quantize, gemm, both attentions and gemm_transposed_int8 on small inputs, beside
// the scalar ones; below a millisecond. 0: they gave the same bits, and attention was within its
// bound; else 1, 2, 3 or 4 for the operation that failed.
int pio_kernels_self_test(const struct pio_kernels *kernels);

#endif
