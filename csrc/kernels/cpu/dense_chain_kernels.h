// What the instruction-set specific part of the dense chain offers to the common part.
//
// E is the type of the tensors: seed, x, references, dL/dx. All else, G in the scratch too, is
// of the type of the sums, Accumulator<E>.
#ifndef SPLITOP_KERNELS_CPU_DENSE_CHAIN_KERNELS_H_
#define SPLITOP_KERNELS_CPU_DENSE_CHAIN_KERNELS_H_

#include <stdint.h>

#include "kernels/element.h"
#include "splitop/activation.h"
#include "splitop/convolution.h"
#include "splitop/table_update.h"
#include "splitop/update_rule.h"

namespace splitop {

// G = dL/dz of one layer, [batch, cols], kept as the panels that the products read.
// W below is the tile width, kernels.tile_cols.
template <typename E>
struct Gradient {
  using T = Accumulator<E>;

  int64_t batch;
  int64_t cols;
  splitop_activation activation;  // G = activation'(reference) * dL/dy
  T alpha;
  const E* reference;     // [batch, cols], row-major; unused where linear
  splitop_variable bias;  // updated when G is complete; value NULL: none
  T* by_batch;            // [ceil(cols / W)][batch][W]: the right side of x^T G; NULL: not needed
  T* by_column;           // [ceil(batch / W)][cols][W]: G^T, the right side of W G^T
  bool keep_by_column;    // a product reads by_column after the activation's gradient
  E* row_major;           // [batch, cols]: G as a result; NULL: not wanted
  T* column_sums;         // [cols]: dL/db as a result; NULL: not wanted
};

// The backward pass of one layer, the rows of whose kernel can be worked on independently.
template <typename E>
struct LayerJob {
  using T = Accumulator<E>;

  int64_t inputs;
  int64_t outputs;
  const E* x;                   // [batch, inputs], row-major
  splitop_variable kernel;      // [inputs, outputs]
  const E* read_kernel;         // what the forward pass has read: the kernel, or its copy in E
  const Gradient<E>* gradient;  // of this layer
  const Gradient<E>* below;     // of the layer below, to be made from W G^T; NULL: not needed
  splitop_update_rule rule;
  const T* hyper;
  const T* kernel_gradient;  // dL/dW, [inputs, outputs]; NULL: it is worked out
};

// The matrix of a convolution's windows (splitop/convolution.h).
template <typename T>
struct Windows {
  const T* image;  // [batch, rows.input, columns.input, channels]
  int64_t channels;
  splitop_window rows, columns;
};

// The forward pass of one layer.
template <typename T>
struct ForwardJob {
  int64_t batch;
  int64_t inputs;
  int64_t outputs;
  const T* x;  // [batch, inputs], rows x_stride apart; unused where there are
  int64_t x_stride;
  bool is_part;               // W is some rows of a deep layer's (forward_tasks.h)
  const Windows<T>* windows;  // in its place; NULL: none
  const T* kernel;            // [inputs, outputs]
  const T* bias;              // [outputs]; NULL: none
  splitop_activation activation;
  T alpha;
  T* z;  // [batch, outputs], x W + b as a result; NULL: not wanted
  T* y;  // act(z), likewise
};

// What the gradient x^T G of a kernel is made of.
template <typename E>
struct GradientSource {
  int64_t batch;
  int64_t inputs;
  int64_t outputs;
  const E* x;         // [batch, inputs], row-major
  const E* gradient;  // G: [batch, outputs], row-major
};

constexpr int64_t kGramRows = 48;  // and columns of a GramBlock, at most

// Pairs of rows of the batch: (row, col) to (row + rows, col + cols), exclusive.
struct GramBlock {
  int64_t row, col;
  int64_t rows, cols;
};

// The update of a table's rows. `words` below are (row << position_bits | position) for each
// position of the table's ids, in ascending order.
template <typename T>
struct TableJob {
  const splitop_table_update* table;
  splitop_update_rule rule;
  const T* hyper;
  const int64_t* bag_sizes;  // [gradient_rows]: how many ids; NULL where bags are summed
  int32_t position_bits;
};

// A block of a product C = A B, with the strides of each, in elements. C's columns are contiguous.
template <typename T>
struct ProductJob {
  int64_t rows, cols, depth;
  const T* a;
  int64_t a_row, a_depth;
  const T* b;
  int64_t b_depth, b_col;
  T* c;
  int64_t c_row;
};

// A layer normalization of rows of `width` elements, row-major.
template <typename T>
struct NormJob {
  int64_t width;
  T epsilon;
  const T* x;
  const T *gamma, *beta;  // [width]
  T* y;
};

// Its gradient.
template <typename T>
struct NormGradientJob {
  int64_t width;
  T epsilon;
  const T *dy, *x;
  const T* gamma;  // [width]
  T* dx;
};

// Softmax of rows of `width` elements, row-major (splitop/softmax.h).
template <typename T>
struct SoftmaxJob {
  int64_t width;
  const T* x;
  T* y;
};

// Its gradient.
template <typename T>
struct SoftmaxGradientJob {
  int64_t width;
  const T *dy, *y;
  T* dx;
};

// The gradient of a convolution's filter, X^T G.
template <typename T>
struct FilterJob {
  const Windows<T>* windows;  // X
  int64_t filters;
  const T* gradient;  // G: [windows, filters], row-major
  T* sums;            // of a block's windows: [rows of the filter as a matrix, filters]
  T* bias_sums;       // likewise: [filters]
};

// Rows and columns of it, and windows.
struct FilterBlock {
  int64_t row, col;
  int64_t rows, cols;
  int64_t begin, end;
};

// The gradient of max pooling (splitop/max_pool.h).
template <typename T>
struct PoolJob {
  int64_t channels;
  splitop_window rows, columns;
  const T* x;
  bool of_relu;
  const T* dy;
  T* dz;
};

template <typename E>
struct DenseChainKernels {
  using T = Accumulator<E>;

  int64_t tile_cols;
  int64_t max_row_block;  // a multiple of tile_cols

  // Elements of scratch that one worker needs for layer_rows.
  int64_t (*worker_scratch)(int64_t batch);

  // Makes columns [begin, end) of the top layer's G from the seed. begin: a multiple of
  // tile_cols; end - begin: at most max_row_block.
  void (*top_columns)(const Gradient<E>& top, const E* seed, int64_t begin, int64_t end,
                      splitop_update_rule rule, const T* hyper);

  int64_t forward_rows;  // that forward_block makes at most
  int64_t forward_cols;  // likewise; a multiple of tile_cols
  // Whether a layer's W comes from memory, and that takes longer than to multiply by it; and how
  // many columns of such a layer's activations forward_block makes at most, of all rows.
  bool (*waits_for_kernel)(int64_t batch, int64_t inputs, int64_t outputs);
  int64_t streamed_cols;
  int64_t forward_scratch;  // elements of scratch that it needs

  // Makes rows [begin, end) of columns [first, first + width) of a layer's activations.
  void (*forward_block)(const ForwardJob<T>& job, int64_t begin, int64_t end, int64_t first,
                        int64_t width, T* scratch);

  // Makes rows [begin, end) of a layer's activations, where x W is the sum of `count` products,
  // [count, batch, outputs].
  void (*finish_sums)(const ForwardJob<T>& job, const T* sums, int64_t count, int64_t begin,
                      int64_t end);

  // Rows [begin, end) of the layer's kernel, a range as above: the same columns of the
  // gradient below, the weight gradient and its update.
  void (*layer_rows)(const LayerJob<E>& job, int64_t begin, int64_t end, T* scratch);

  // The same without the weight gradient and its update; `below` is needed.
  void (*input_gradient_rows)(const LayerJob<E>& job, int64_t begin, int64_t end, T* scratch);

  // The sums of the squares of each of the rows [begin, end) of the weight gradient: squares[begin]
  // on. The gradient is thrown away, or kept: [inputs, outputs]. scratch is as for layer_rows.
  void (*weight_squares)(const LayerJob<E>& job, int64_t begin, int64_t end, T* scratch, T* kept,
                         double* squares);

  // The same in double, several times as slow.
  void (*weight_squares_in_double)(const GradientSource<E>& source, int64_t begin, int64_t end,
                                   double* squares);

  // A block's part of the squared norm of the weight gradient. scratch: gram_scratch bytes.
  double (*gram_block)(const GradientSource<E>& source, const GramBlock& block, void* scratch);
  int64_t gram_scratch;

  double (*sum_squares)(const E* values, int64_t count);

  // Updates `count` elements of a variable, from `offset` on, by their gradient g. To a row-wise
  // rule they are rows.
  void (*update)(splitop_update_rule rule, const splitop_variable& variable, const T* hyper,
                 int64_t offset, int64_t count, const T* g);

  // Updates rows [begin, end), of `width` elements, by their gradient g, under a row-wise rule.
  void (*update_rows)(splitop_update_rule rule, const splitop_variable& variable, const T* hyper,
                      int64_t width, int64_t begin, int64_t end, const T* g);

  // Updates the rows of the words in [first, last), which are all that these rows have.
  void (*looked_up_rows)(const TableJob<T>& job, const uint64_t* first, const uint64_t* last);

  // Updates rows [begin, end) of a table; [first, last): all words that these rows have.
  void (*all_rows)(const TableJob<T>& job, const uint64_t* first, const uint64_t* last,
                   int64_t begin, int64_t end);

  // Makes a block of at most product_rows and tile_cols, at least one step deep. scratch:
  // product_scratch elements.
  void (*product_block)(const ProductJob<T>& job, T* scratch);
  int64_t product_rows;
  int64_t product_scratch;

  // Normalizes rows [begin, end).
  void (*norm_rows)(const NormJob<T>& job, int64_t begin, int64_t end);

  // Rows [begin, end) of dL/dx, and the sums over them for gamma and beta: [width].
  void (*norm_gradient_rows)(const NormGradientJob<T>& job, int64_t begin, int64_t end, T* dgamma,
                             T* dbeta);

  // Rows [begin, end), of both.
  void (*softmax_rows)(const SoftmaxJob<T>& job, int64_t begin, int64_t end);
  void (*softmax_gradient_rows)(const SoftmaxGradientJob<T>& job, int64_t begin, int64_t end);

  // Makes a block, of at least one window and at most filter_rows and filter_cols, both multiples
  // of a tile's; its part of bias_sums where it begins at row 0. scratch: filter_scratch elements.
  void (*filter_block)(const FilterJob<T>& job, const FilterBlock& block, T* scratch);
  int64_t tile_rows;
  int64_t filter_rows;
  int64_t filter_cols;
  int64_t filter_scratch;

  // Makes dL/dx of one image.
  void (*pooled_image)(const PoolJob<T>& job, int64_t image);
};

// One table an instruction set and a type; NULL where it was not compiled.
struct DenseChainTables {
  const DenseChainKernels<float>* float32;
  const DenseChainKernels<double>* float64;
  const DenseChainKernels<bfloat16>* bfloat16_tensors;
  const DenseChainKernels<float16>* float16_tensors;
};

DenseChainTables dense_chain_tables_baseline();
DenseChainTables dense_chain_tables_avx2();
DenseChainTables dense_chain_tables_avx512();

// The kernels of the instruction set in use.
template <typename E>
const DenseChainKernels<E>& dense_chain_kernels();

}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_DENSE_CHAIN_KERNELS_H_
