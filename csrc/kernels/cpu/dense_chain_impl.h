// The dense chain's inner work, compiled once an instruction set (dense_chain_*.cpp).
//
// A task owns a block of rows of W, and so some columns of x. It makes these columns of
// dL/dx = G W^T, and turns them into the layer below's G. Then it goes through W a block at a time,
// makes dL/dW = x^T G, which never leaves the cache, and updates W: a block of columns, or, after a
// short batch, some whole rows (update_in_runs.h). With AVX-512 a W that is fetched from memory
// for a few rows of G is fetched once: there each block is worked on for both products.
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
#include "kernels/cpu/filter_gradient.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/gram.h"
#include "kernels/cpu/norm_rows.h"
#include "kernels/cpu/pooled_image.h"
#include "kernels/cpu/product_block.h"
#include "kernels/cpu/rowwise_update.h"
#include "kernels/cpu/short_floats.h"
#include "kernels/cpu/softmax_rows.h"
#include "kernels/cpu/squares.h"
#include "kernels/cpu/streamed_forward.h"
#include "kernels/cpu/table_rows.h"
#include "kernels/cpu/transpose.h"
#include "kernels/cpu/update_in_runs.h"
#include "kernels/cpu/variable_update.h"
#include "kernels/cpu/window_forward.h"

namespace splitop {
namespace {

constexpr int64_t kColBlock = kDepthBlock;  // columns of W that are worked on at a time

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

// From here on it pays to copy rows of W that alias, and to ask for the next panel of G.
constexpr int64_t kLongBatch = 256;

// Between the rows of a copied block of W, so that they do not alias.
template <typename T>
constexpr int64_t kCopyPadding = 64 / sizeof(T);

// Room of a worker for a block of W, or of its gradient.
template <typename T>
constexpr int64_t kBlockRoom = kMaxRowBlock<T> * (kColBlock + kCopyPadding<T>);

// A block of W, a tile of rows after the other.
template <typename T>
struct KernelBlock {
  TileRows<T> rows;
  int64_t tile_stride;
};

// Rows [begin, end) and columns [first, first + width) of the kernel that the forward pass has
// read: in place, or copied, as floats.
template <typename E, typename T>
KernelBlock<T> kernel_block(const LayerJob<E>& job, int64_t begin, int64_t end, int64_t first,
                            int64_t width, T* copy) {
  const E* w = job.read_kernel + begin * job.outputs + first;
  if constexpr (!kIsShort<E>) {
    if (!rows_alias<T>(job.outputs) || job.gradient->batch < kLongBatch) {
      return {{w, job.outputs, 1}, kTileRows * job.outputs};
    }
  }
  const int64_t stride = ceil_div(width, kColBlock) * kColBlock + kCopyPadding<T>;
  for (int64_t i = 0; i < end - begin; ++i) {
    for (int64_t k = 0; k < width; ++k) copy[i * stride + k] = widen(w[i * job.outputs + k]);
  }
  return {{copy, stride, 1}, kTileRows * stride};
}

// The next tile's rows of W, of as many columns as this one has steps. There may be none.
template <typename E>
BytesAhead<> next_rows(const LayerJob<E>& job, int64_t row, int64_t end, int64_t first,
                       int64_t depth) {
  constexpr int64_t kBytes = sizeof(E);
  const E* const w = job.read_kernel + first;
  const int64_t rows = min64(min64(kTileRows, end - row), depth);
  if (rows <= 0) return {w, 0, depth};
  return BytesAhead<>::of_rows(w + row * job.outputs, depth * kBytes, depth, rows,
                               job.outputs * kBytes);
}

// A tile's rows of W from column `first` on, of which there may be none: those that are worked on
// next.
template <typename E>
BytesAhead<> next_columns(const LayerJob<E>& job, int64_t row, int64_t rows, int64_t first,
                          int64_t depth) {
  constexpr int64_t kBytes = sizeof(E);
  const int64_t width = min64(kColBlock, job.outputs - first);
  const E* const w = job.read_kernel + row * job.outputs;
  return BytesAhead<>::of_rows(w + first % job.outputs, width * kBytes, depth, rows,
                               job.outputs * kBytes);
}

// What the columns [first, first + width) of W add to columns [begin, end) of dL/dx, transposed:
// below.by_column = W G^T. scratch: room for that block of W. asks_ahead: for the columns after
// these.
template <typename E, typename T = Accumulator<E>>
void input_gradient(const LayerJob<E>& job, int64_t begin, int64_t end, int64_t first,
                    int64_t width, bool asks_ahead, T* scratch) {
  constexpr int64_t kCols = kTileCols<T>;
  const Gradient<E>& g = *job.gradient;
  const KernelBlock<T> w = kernel_block(job, begin, end, first, width, scratch);
  const int64_t tiles = tiles_of(end - begin);
  for (int64_t row = 0; row < g.batch; row += kCols) {
    T* const out = job.below->by_column + row * job.inputs;
    for (int64_t d = 0; d < width; d += kDepthBlock) {
      const int64_t depth = min64(kDepthBlock, width - d);
      const T* const panel = g.by_column + row * job.outputs + (first + d) * kCols;
      NextPanel<T> next{panel, 0};
      if (g.batch >= kLongBatch && d + depth < width) {
        next = {panel + depth * kCols, min64(kDepthBlock, width - d - depth)};
      } else if (g.batch >= kLongBatch && row + kCols < g.batch) {
        next = {panel + (job.outputs - d) * kCols, min64(kDepthBlock, width)};
      }
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t i = begin + t * kTileRows;
        const int rows = static_cast<int>(min64(kTileRows, end - i));
        TileRows<T> a = w.rows;
        a.data += t * w.tile_stride + d;
        BytesAhead<> ahead = next.bytes(t, tiles, depth);
        // The first panel finds W where it is, and the others find it in the cache.
        if (row == 0 && asks_ahead) {
          ahead = next_columns(job, i, min64(rows, depth), first + width, depth);
        } else if (row == 0 && !kIsShort<E> && g.batch < kLongBatch) {
          ahead = next_rows(job, i + kTileRows, end, first + d, depth);
        }
        tile<T>(rows, depth, a, panel, out + i * kCols, kCols, first + d > 0, ahead);
      }
    }
  }
}

// Columns [begin, end) of x as panels of kTileRows: [panel][batch][kTileRows]. A few rows of x at a
// time, so that they stay in the cache while they are shared out, whatever their distance.
template <typename E, typename T>
const T* pack_input(const LayerJob<E>& job, int64_t begin, int64_t end, T* packed) {
  constexpr int64_t kRowsOfX = 8;
  const int64_t batch = job.gradient->batch;
  for (int64_t first = 0; first < batch; first += kRowsOfX) {
    const int64_t last = min64(first + kRowsOfX, batch);
    for (int64_t i = begin; i < end; i += kTileRows) {
      T* panel = packed + (i - begin) * batch;
      const int64_t rows = min64(kTileRows, end - i);
      for (int64_t b = first; b < last; ++b) {
        const E* x = job.x + b * job.inputs + i;
        T* const to = panel + b * kTileRows;
        if constexpr (!kIsShort<E>) {
          if (rows == kTileRows) {  // of a known size: without a loop
            __builtin_memcpy(to, x, sizeof(T) * kTileRows);
            continue;
          }
        }
        for (int64_t r = 0; r < rows; ++r) to[r] = widen(x[r]);
      }
    }
  }
  return packed;
}

// The panel of by_batch after `panel`, that of steps [k, k + depth) and column j of [first, first +
// width): all columns come before more steps, and all steps before more columns.
template <typename E, typename T>
NextPanel<T> next_of_batch(const Gradient<E>& g, const T* panel, int64_t first, int64_t width,
                           int64_t j, int64_t k, int64_t depth) {
  constexpr int64_t kCols = kTileCols<T>;
  if (g.batch < kLongBatch) return {panel, 0};
  if (j + kCols < width) return {panel + kCols * g.batch, depth};
  if (k + depth < g.batch) {
    return {g.by_batch + first * g.batch + (k + depth) * kCols,
            min64(kDepthBlock, g.batch - k - depth)};
  }
  if (first + width < g.cols) {
    return {g.by_batch + (first + width) * g.batch, min64(kDepthBlock, g.batch)};
  }
  return {panel, 0};
}

// Rows [begin, end) and columns [first, first + width) of dL/dW = x^T G, [end - begin, kColBlock].
// packed: those of x. fetched: is asked for on the way.
template <typename E, typename T>
void weight_gradient(const LayerJob<E>& job, int64_t begin, int64_t end, int64_t first,
                     int64_t width, const T* packed, const Fetched<T>& fetched, T* gradient) {
  constexpr int64_t kCols = kTileCols<T>;
  const Gradient<E>& g = *job.gradient;
  const int64_t tiles = tiles_of(end - begin);
  for (int64_t k = 0; k < g.batch; k += kDepthBlock) {
    const int64_t depth = min64(kDepthBlock, g.batch - k);
    const bool is_last = k + depth == g.batch;
    for (int64_t j = 0; j < width; j += kCols) {
      const T* const panel = g.by_batch + (first + j) * g.batch + k * kCols;
      const NextPanel<T> next = next_of_batch(g, panel, first, width, j, k, depth);
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t i = t * kTileRows;
        const int rows = static_cast<int>(min64(kTileRows, end - begin - i));
        const TileRows<T> x{packed + i * g.batch + k * kTileRows, 1, kTileRows};
        T* const to = gradient + i * kColBlock + j;
        if (is_last && fetched.count > 0) {
          AskedRows<T> asked;
          const int64_t element = (begin + i) * job.outputs + first + j;
          for (int a = 0; a < fetched.count; ++a) {
            asked.add(fetched.arrays[a] + element, job.outputs, rows);
          }
          next.add_rows(t, tiles, &asked);
          tile<T>(rows, depth, x, panel, to, kColBlock, k > 0,
                  RowsAhead<T>(asked.at, asked.count, depth));
        } else {
          tile<T>(rows, depth, x, panel, to, kColBlock, k > 0, next.bytes(t, tiles, depth));
        }
      }
    }
  }
}

// A worker's scratch: a block of W or of its gradient, then columns of x.
template <typename T>
T* packed_input(T* scratch) {
  return scratch + kBlockRoom<T>;
}

template <typename T>
int64_t worker_scratch(int64_t batch) {
  return kBlockRoom<T> + kMaxRowBlock<T> * batch;
}

// Calls body(first, width) for each block of columns of W.
template <typename E, typename Body>
void for_column_blocks(const LayerJob<E>& job, int64_t block, const Body& body) {
  for (int64_t first = 0; first < job.outputs; first += block) {
    body(first, min64(block, job.outputs - first));
  }
}

// In wide blocks of W: the fewer there are, the less often the sums are fetched.
template <typename E, typename T = Accumulator<E>>
void input_gradient_rows(const LayerJob<E>& job, int64_t begin, int64_t end, T* scratch) {
  constexpr int64_t kWidest = 4096 / sizeof(T);  // in a second-level cache of 1 MB
  // A copied block has all of the scratch.
  const int64_t fitting = (kColBlock + job.gradient->batch) / kColBlock * kColBlock;
  for_column_blocks(job, min64(kWidest, fitting), [&](int64_t first, int64_t width) {
    input_gradient(job, begin, end, first, width, /*asks_ahead=*/false, scratch);
  });
  finish_columns<E>(*job.below, nullptr, begin, end, job.rule, job.hyper);
}

// What the update of rows of W has to fetch. has_kernel: a cache has them, as dL/dx has read them.
template <typename E, typename T = Accumulator<E>>
Fetched<T> fetched_for_update(const LayerJob<E>& job, bool has_kernel) {
  Fetched<T> fetched;
  if (!has_kernel) fetched.add(job.kernel.value);
  const int32_t num_slots = splitop_num_slots(job.rule);
  for (int32_t s = 0; s < num_slots; ++s) fetched.add(job.kernel.slots[s]);
  return fetched;
}

// The update of rows [begin, end) and columns [first, first + width) of W. packed: these columns of
// x. Of a W that is waited for a tile's rows at a time: what they fetch is used soon. Not inlined,
// as a tile takes all registers there are.
template <typename E, typename T>
__attribute__((noinline)) void update_block(const LayerJob<E>& job, int64_t begin, int64_t end,
                                            int64_t first, int64_t width, const T* packed,
                                            const Fetched<T>& fetched, T* gradient) {
  const int64_t batch = job.gradient->batch;
  const bool waits = fetched.count > 0 && waits_for_kernel<T>(batch, job.inputs, job.outputs);
  const int64_t at_a_time = waits ? kTileRows : end - begin;
  for (int64_t row = begin; row < end; row += at_a_time) {
    const int64_t row_end = min64(row + at_a_time, end);
    weight_gradient(job, row, row_end, first, width, packed + (row - begin) * batch, fetched,
                    gradient);
    const Block block{row * job.outputs + first, row_end - row, width, job.outputs, kColBlock};
    update_variable(job.rule, job.kernel, job.hyper, block, gradient);
  }
}

template <typename E, typename T = Accumulator<E>>
void layer_rows(const LayerJob<E>& job, int64_t begin, int64_t end, T* scratch) {
  constexpr int64_t kCached = (1 << 20) / sizeof(T);
  // A short copy of W is not what is updated.
  const bool reads_kernel = !kIsShort<E> && job.below != nullptr;
  const bool waits = waits_for_kernel<T>(job.gradient->batch, job.inputs, job.outputs);
  const bool in_one_pass = reads_kernel && waits && !kUpdatesInRuns && !job.kernel_gradient;
  if (job.below != nullptr && !in_one_pass) input_gradient_rows(job, begin, end, scratch);
  if (job.kernel_gradient != nullptr) {
    const int64_t first = begin * job.outputs, count = (end - begin) * job.outputs;
    return update_variable(job.rule, job.kernel, job.hyper, first, count,
                           job.kernel_gradient + first);
  }
  const bool has_kernel = in_one_pass || (reads_kernel && (end - begin) * job.outputs <= kCached);
  const Fetched<T> fetched = fetched_for_update(job, has_kernel);
  const T* const packed = pack_input(job, begin, end, packed_input(scratch));
  // What a cache has is updated as fast by blocks, which read G less often.
  if (kUpdatesInRuns && fetched.count > 0 && job.gradient->batch <= kLongestInRuns) {
    return update_in_runs(job, begin, end, packed, fetched, kBlockRoom<T>, scratch);
  }
  for_column_blocks(job, kColBlock, [&](int64_t first, int64_t width) {
    if (in_one_pass) input_gradient(job, begin, end, first, width, /*asks_ahead=*/true, scratch);
    update_block(job, begin, end, first, width, packed, fetched, scratch);
  });
  if (in_one_pass) finish_columns<E>(*job.below, nullptr, begin, end, job.rule, job.hyper);
}

template <typename E, typename T = Accumulator<E>>
void weight_squares(const LayerJob<E>& job, int64_t begin, int64_t end, T* scratch, T* kept,
                    double* squares) {
  for (int64_t i = begin; i < end; ++i) squares[i] = 0;
  const T* const packed = pack_input(job, begin, end, packed_input(scratch));
  for_column_blocks(job, kColBlock, [&](int64_t first, int64_t width) {
    weight_gradient(job, begin, end, first, width, packed, Fetched<T>(), scratch);
    for (int64_t i = begin; i < end; ++i) {
      const T* const row = scratch + (i - begin) * kColBlock;
      squares[i] += sum_squares(row, width);
      if (kept == nullptr) continue;
      __builtin_memcpy(kept + i * job.outputs + first, row, sizeof(T) * width);
    }
  });
}

// ---- the forward pass ----

template <typename T>
void forward_block(const ForwardJob<T>& job, int64_t begin, int64_t end, int64_t first,
                   int64_t width, T* scratch) {
  if (waits_for_kernel<T>(job.batch, job.inputs, job.outputs)) {
    streamed_forward_block(job, first, width, scratch);
  } else if (job.windows != nullptr) {
    window_forward_block(job, begin, end, first, width, scratch);
  } else {
    cached_forward_block(job, begin, end, first, width, scratch);
  }
}

template <typename T>
constexpr int64_t kForwardScratch =
    kCachedForwardScratch<T> > kStreamedScratch<T> ? kCachedForwardScratch<T> : kStreamedScratch<T>;

// ---- the table ----

template <typename E, typename T = Accumulator<E>>
constexpr DenseChainKernels<E> kKernels = {
    kTileCols<T>,
    kMaxRowBlock<T>,
    worker_scratch<T>,
    finish_columns<E>,
    kForwardRows<T>,
    kForwardCols,
    waits_for_kernel<T>,
    kStreamedCols<T>,
    kForwardScratch<T>,
    forward_block<T>,
    finish_sums<T>,
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
    all_rows<T>,
    product_block<T>,
    kProductRows,
    kProductScratch<T>,
    norm_rows<T>,
    norm_gradient_rows<T>,
    softmax_rows<T>,
    softmax_gradient_rows<T>,
    filter_block<T>,
    kTileRows,
    kFilterRows,
    kFilterCols,
    static_cast<int64_t>(sizeof(FilterScratch<T>) / sizeof(T)),
    pooled_image<T>};

static_assert(kMaxRowBlock<float> % kTileCols<float> == 0);
static_assert(kMaxRowBlock<double> % kTileCols<double> == 0);
static_assert(kColBlock % kTileCols<float> == 0);
static_assert(kBlockRoom<float> >= kTileRows * kTileCols<float>);  // for update_in_runs
static_assert(kBlockRoom<double> >= kTileRows * kTileCols<double>);
static_assert(kForwardCols % kTileCols<float> == 0);
static_assert(kStreamedCols<float> % kTileCols<float> == 0);
static_assert(kStreamedCols<double> % kTileCols<double> == 0);
static_assert(kStreamedBatch <= kForwardRows<double>);
static_assert(kForwardDepth<float> % kDepthBlock == 0 && kForwardDepth<double> % kDepthBlock == 0);

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_DENSE_CHAIN_IMPL_H_
