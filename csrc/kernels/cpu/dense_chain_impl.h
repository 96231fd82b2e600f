// The dense chain's inner work, compiled once an instruction set (dense_chain_*.cpp).
//
// A task owns a block of rows of W (some columns of x). While those rows are in the cache
// it makes the same columns of dL/dx = G W^T, turns them into the layer below's G, and
// then runs dL/dW = x^T G, kUpdateCols columns at a time, each consumed by the update as
// soon as it is complete. So W is fetched from memory once a step, and the weight gradient never
// leaves the cache.
//
// G is kept twice, as panels of columns and as panels of the batch, so that both products
// read it contiguously and the big matrix W needs no packing.
//
// Tensors of 16 bits become floats where they are read, and G stays one from layer to layer; only
// a result is rounded.
#ifndef SPLITOP_KERNELS_CPU_DENSE_CHAIN_IMPL_H_
#define SPLITOP_KERNELS_CPU_DENSE_CHAIN_IMPL_H_

#include "kernels/activation_gradients.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/dense_forward.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/gram.h"
#include "kernels/cpu/rowwise_update.h"
#include "kernels/cpu/short_floats.h"
#include "kernels/cpu/squares.h"
#include "kernels/cpu/table_rows.h"
#include "kernels/cpu/transpose.h"
#include "kernels/cpu/variable_update.h"

namespace splitop {
namespace {

constexpr int64_t kUpdateCols = 256;  // columns of the weight gradient that are held at a time

template <typename T>
constexpr int64_t kMaxRowBlock = 16 * kTileRows;

// ---- dL/dy to G: activation gradient, bias update, panels ----

// A square of the gradient, batch rows by columns, small enough for the first-level cache.
template <typename T>
struct Square {
  static constexpr int64_t kSize = kTileCols<T>;
  alignas(kVectorBytes) T at[kSize][kSize];
};

template <typename E, typename T>
void load_square(const E* rows, int64_t stride, int64_t height, int64_t width, Square<T>& square) {
  constexpr int64_t kSize = Square<T>::kSize;
  for (int64_t i = 0; i < kSize; ++i) {
    const int64_t valid = i < height ? width : 0;
    for (int64_t j = 0; j < valid; ++j) square.at[i][j] = widen(rows[i * stride + j]);
    for (int64_t j = valid; j < kSize; ++j) square.at[i][j] = T(0);
  }
}

// The square's columns are stored as rows of kSize; the first `width` of them are valid.
template <typename T>
void load_transposed(const T* columns, int64_t width, Square<T>& square) {
  constexpr int64_t kSize = Square<T>::kSize;
  if (width == kSize) return transpose_square(kSize, columns, square.at[0]);
  for (int64_t j = 0; j < kSize; ++j) {
    for (int64_t i = 0; i < kSize; ++i) {
      square.at[i][j] = j < width ? columns[j * kSize + i] : T(0);
    }
  }
}

template <typename T>
void store_transposed(const Square<T>& square, int64_t width, T* columns) {
  constexpr int64_t kSize = Square<T>::kSize;
  if (width == kSize) return transpose_square(kSize, square.at[0], columns);
  for (int64_t j = 0; j < width; ++j) {
    for (int64_t i = 0; i < kSize; ++i) columns[j * kSize + i] = square.at[i][j];
  }
}

template <typename E, typename T>
void store_rows(const Square<T>& square, int64_t height, int64_t width, E* rows, int64_t stride) {
  for (int64_t i = 0; i < height; ++i) {
    for (int64_t j = 0; j < width; ++j) rows[i * stride + j] = narrow<E>(square.at[i][j]);
  }
}

template <splitop_activation A, typename E, typename T>
void activate(const E* reference, int64_t stride, int64_t height, int64_t width, T alpha,
              Square<T>& square) {
  for (int64_t i = 0; i < height; ++i) {
    for (int64_t j = 0; j < width; ++j) {
      square.at[i][j] =
          activation_gradient<A>(square.at[i][j], widen(reference[i * stride + j]), alpha);
    }
  }
}

template <typename E, typename T>
void activate(splitop_activation activation, const E* reference, int64_t stride, int64_t height,
              int64_t width, T alpha, Square<T>& square) {
  with_activation(activation, [&](auto tag) {
    activate<decltype(tag)::kActivation>(reference, stride, height, width, alpha, square);
  });
}

// One square of dL/dy becomes one of G, in all layouts. Its column sums are added to
// bias_gradient: a sum of sums, whose error grows more slowly with the batch.
template <typename E, typename T>
void finish_square(const Gradient<E>& g, int64_t row, int64_t first, bool by_column_is_set,
                   Square<T>& square, T* bias_gradient) {
  constexpr int64_t kSize = Square<T>::kSize;
  const int64_t height = min64(kSize, g.batch - row);
  const int64_t width = min64(kSize, g.cols - first);
  if (g.activation != SPLITOP_LINEAR) {
    activate(g.activation, g.reference + row * g.cols + first, g.cols, height, width, g.alpha,
             square);
    by_column_is_set = false;
  }
  if (g.row_major != nullptr) {
    E* const result = g.row_major + row * g.cols + first;
    store_rows(square, height, width, result, g.cols);
    if constexpr (kIsShort<E>) {
      // All that comes of G comes of the G that the caller sees.
      load_square(result, g.cols, height, width, square);
      by_column_is_set = false;
    }
  }
  T sum[kSize] = {};
  for (int64_t i = 0; i < height; ++i) {
    for (int64_t j = 0; j < kSize; ++j) sum[j] += square.at[i][j];
  }
  for (int64_t j = 0; j < kSize; ++j) bias_gradient[j] += sum[j];
  if (g.by_batch != nullptr) {
    store_rows(square, height, kSize, g.by_batch + first * g.batch + row * kSize, kSize);
  }
  if (g.keep_by_column && !by_column_is_set) {
    store_transposed(square, width, g.by_column + row * g.cols + first * kSize);
  }
}

// Columns [begin, end) of `gradient`. The values dL/dy come from `seed`, [batch, cols]
// row-major, or, where it is NULL, from by_column. Rows are the outer loop: what is
// row-major is then read in runs of several panels.
template <typename E, typename T = Accumulator<E>>
void finish_columns(const Gradient<E>& gradient, const E* seed, int64_t begin, int64_t end,
                    splitop_update_rule rule, const T* hyper) {
  constexpr int64_t kSize = Square<T>::kSize;
  alignas(kVectorBytes) T bias_gradient[kMaxRowBlock<T>] = {};
  Square<T> square;
  for (int64_t row = 0; row < gradient.batch; row += kSize) {
    const int64_t height = min64(kSize, gradient.batch - row);
    for (int64_t first = begin; first < end; first += kSize) {
      const int64_t width = min64(kSize, gradient.cols - first);
      const int64_t corner = row * gradient.cols + first;
      if (seed != nullptr) {
        load_square(seed + corner, gradient.cols, height, width, square);
      } else {
        load_transposed(gradient.by_column + row * gradient.cols + first * kSize, width, square);
      }
      finish_square(gradient, row, first, seed == nullptr, square, bias_gradient + (first - begin));
    }
  }
  for (int64_t j = begin; gradient.column_sums != nullptr && j < end; ++j) {
    gradient.column_sums[j] = bias_gradient[j - begin];
  }
  if (gradient.bias.value != nullptr) {
    update_variable(rule, gradient.bias, hyper, begin, end - begin, bias_gradient);
  }
}

// ---- the two products ----

// Rows of W whose starts are this far apart share the sets of the first-level cache.
constexpr int64_t kAliasedBytes = 4096;
constexpr int64_t kAliasedBatch = 256;  // from here on it pays to copy them out of each other's way

// A block of W, a tile of rows after the other.
template <typename T>
struct KernelBlock {
  TileRows<T> rows;
  int64_t tile_stride;
};

// Rows [begin, end) and columns [first, first + depth) of the kernel that the forward pass has
// read: in place, or copied, as floats.
template <typename E, typename T>
KernelBlock<T> kernel_block(const LayerJob<E>& job, int64_t begin, int64_t end, int64_t first,
                            int64_t depth, T* copy) {
  const E* w = job.read_kernel + begin * job.outputs + first;
  if constexpr (kIsShort<E>) {
    for (int64_t i = 0; i < end - begin; ++i) {
      for (int64_t k = 0; k < depth; ++k) copy[i * kDepthBlock + k] = widen(w[i * job.outputs + k]);
    }
    return {{copy, kDepthBlock, 1}, kTileRows * kDepthBlock};
  } else {
    const bool aliased = job.outputs * static_cast<int64_t>(sizeof(T)) % kAliasedBytes == 0;
    if (!aliased || job.gradient->batch < kAliasedBatch) {
      return {{w, job.outputs, 1}, kTileRows * job.outputs};
    }
    for (int64_t i = 0; i < end - begin; ++i) {
      T* column = copy + i / kTileRows * kTileRows * kDepthBlock + i % kTileRows;
      for (int64_t k = 0; k < depth; ++k) column[k * kTileRows] = w[i * job.outputs + k];
    }
    return {{copy, 1, kTileRows}, kTileRows * kDepthBlock};
  }
}

// Columns [begin, end) of dL/dx, transposed: below.by_column = W G^T.
template <typename E, typename T = Accumulator<E>>
void input_gradient(const LayerJob<E>& job, int64_t begin, int64_t end, T* scratch) {
  constexpr int64_t kCols = kTileCols<T>;
  const Gradient<E>& g = *job.gradient;
  for (int64_t k = 0; k < job.outputs; k += kDepthBlock) {
    const int64_t depth = min64(kDepthBlock, job.outputs - k);
    const KernelBlock<T> w = kernel_block(job, begin, end, k, depth, scratch);
    for (int64_t row = 0; row < g.batch; row += kCols) {
      const T* panel = g.by_column + row * job.outputs + k * kCols;
      T* out = job.below->by_column + row * job.inputs;
      TileRows<T> a = w.rows;
      for (int64_t i = begin; i < end; i += kTileRows) {
        const int rows = static_cast<int>(min64(kTileRows, end - i));
        tile<T>(rows, depth, a, panel, out + i * kCols, kCols, k > 0);
        a.data += w.tile_stride;
      }
    }
  }
}

// Columns [begin, end) of x as panels of kTileRows: [panel][batch][kTileRows].
template <typename E, typename T>
void pack_input(const LayerJob<E>& job, int64_t begin, int64_t end, T* packed) {
  const int64_t batch = job.gradient->batch;
  for (int64_t b = 0; b < batch; ++b) {
    const E* x = job.x + b * job.inputs;
    for (int64_t i = begin; i < end; i += kTileRows) {
      const int64_t rows = min64(kTileRows, end - i);
      T* panel = packed + (i - begin) * batch + b * kTileRows;
      for (int64_t r = 0; r < rows; ++r) panel[r] = widen(x[i + r]);
    }
  }
}

// Asks for what the update of a tile will read and write.
template <typename T>
void prefetch_tile(const splitop_variable& variable, int32_t num_slots, int64_t rows,
                   int64_t stride, int64_t offset) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < kTileCols<T>; c += kLine) {
      const int64_t at = offset + r * stride + c;
      __builtin_prefetch(static_cast<const T*>(variable.value) + at, 1, 2);
      for (int32_t s = 0; s < num_slots; ++s) {
        __builtin_prefetch(static_cast<const T*>(variable.slots[s]) + at, 1, 2);
      }
    }
  }
}

// Rows [begin, end) of dL/dW = x^T G, kUpdateCols columns at a time. `ahead(rows, element)` is
// called before a tile of so many rows is made, from that element of W on; `consume(row, first,
// width, gradient)` has the elements [first, first + width) of a row.
template <typename E, typename T, typename Ahead, typename Consume>
void weight_gradient(const LayerJob<E>& job, int64_t begin, int64_t end, T* scratch,
                     const Ahead& ahead, const Consume& consume) {
  constexpr int64_t kCols = kTileCols<T>;
  const Gradient<E>& g = *job.gradient;
  T* gradient = scratch;  // [end - begin, kUpdateCols]
  T* packed = scratch + kMaxRowBlock<T> * kUpdateCols;
  pack_input(job, begin, end, packed);
  for (int64_t first = 0; first < job.outputs; first += kUpdateCols) {
    const int64_t width = min64(kUpdateCols, job.outputs - first);
    for (int64_t k = 0; k < g.batch; k += kDepthBlock) {
      const int64_t depth = min64(kDepthBlock, g.batch - k);
      for (int64_t j = 0; j < width; j += kCols) {
        const T* panel = g.by_batch + (first + j) * g.batch + k * kCols;
        for (int64_t i = begin; i < end; i += kTileRows) {
          const int rows = static_cast<int>(min64(kTileRows, end - i));
          if (k == 0) ahead(rows, i * job.outputs + first + j);
          tile<T>(rows, depth, {packed + (i - begin) * g.batch + k * kTileRows, 1, kTileRows},
                  panel, gradient + (i - begin) * kUpdateCols + j, kUpdateCols, k > 0);
        }
      }
    }
    for (int64_t i = begin; i < end; ++i) {
      consume(i, first, width, gradient + (i - begin) * kUpdateCols);
    }
  }
}

// Rows [begin, end) of dL/dW, and their update.
template <typename E, typename T>
void weight_update(const LayerJob<E>& job, int64_t begin, int64_t end, T* scratch) {
  const int32_t num_slots = splitop_num_slots(job.rule);
  weight_gradient(
      job, begin, end, scratch,
      [&](int rows, int64_t element) {
        prefetch_tile<T>(job.kernel, num_slots, rows, job.outputs, element);
      },
      [&](int64_t row, int64_t first, int64_t width, const T* gradient) {
        update_variable(job.rule, job.kernel, job.hyper, row * job.outputs + first, width,
                        gradient);
      });
}

template <typename E, typename T = Accumulator<E>>
void weight_squares(const LayerJob<E>& job, int64_t begin, int64_t end, T* scratch,
                    double* squares) {
  for (int64_t i = begin; i < end; ++i) squares[i] = 0;
  weight_gradient(
      job, begin, end, scratch, [](int, int64_t) {},
      [&](int64_t row, int64_t, int64_t width, const T* gradient) {
        squares[row] += sum_squares(gradient, width);
      });
}

// ---- the table ----

template <typename T>
int64_t worker_scratch(int64_t batch) {
  return kMaxRowBlock<T> * (kUpdateCols + batch);
}

template <typename E, typename T = Accumulator<E>>
void input_gradient_rows(const LayerJob<E>& job, int64_t begin, int64_t end, T* scratch) {
  input_gradient(job, begin, end, scratch);
  finish_columns<E>(*job.below, nullptr, begin, end, job.rule, job.hyper);
}

template <typename E, typename T = Accumulator<E>>
void layer_rows(const LayerJob<E>& job, int64_t begin, int64_t end, T* scratch) {
  if (job.below != nullptr) input_gradient_rows(job, begin, end, scratch);
  weight_update(job, begin, end, scratch);
}

template <typename E, typename T = Accumulator<E>>
constexpr DenseChainKernels<E> kKernels = {kTileCols<T>,
                                           kMaxRowBlock<T>,
                                           worker_scratch<T>,
                                           finish_columns<E>,
                                           forward_panel<T>,
                                           layer_rows<E>,
                                           input_gradient_rows<E>,
                                           weight_squares<E>,
                                           weight_squares_in_double<E>,
                                           gram_block<E>,
                                           static_cast<int64_t>(sizeof(GramBuffers)),
                                           sum_squares<E>,
                                           update_variable<T>,
                                           update_rows<T>,
                                           looked_up_rows<T>,
                                           all_rows<T>};

static_assert(kDepthBlock <= kUpdateCols);  // a block of the kernel fits into the scratch
static_assert(kMaxRowBlock<float> % kTileCols<float> == 0);
static_assert(kMaxRowBlock<double> % kTileCols<double> == 0);
static_assert(kUpdateCols % kTileCols<float> == 0);

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_DENSE_CHAIN_IMPL_H_
