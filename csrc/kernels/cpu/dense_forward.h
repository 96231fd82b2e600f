// The forward pass of a dense layer, y = act(x W + b), whose W isn't waited for
// (streamed_forward.h). Compiled once an instruction set.
//
// A task owns a block of y. It goes through W, a few hundred rows at a time: those of its columns
// become panels, by which a tile of rows of x after the other is multiplied. The last time, these
// rows of y are finished while they are in the first-level cache. Of a deep layer (forward_tasks.h)
// a task makes a block of a product, and those of all parts are added up and finished after that.
#ifndef SPLITOP_KERNELS_CPU_DENSE_FORWARD_H_
#define SPLITOP_KERNELS_CPU_DENSE_FORWARD_H_

#include "kernels/cpu/activation_values.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/gemm_tile.h"
#include "splitop/cpu.h"

namespace splitop {
namespace {

// Columns and rows of y, at most, that a task makes, and rows of W that are panels at a time: what
// a second-level cache of 1 MB holds.
constexpr int64_t kForwardCols = 128;
template <typename T>
constexpr int64_t kForwardRows = 4096 / sizeof(T);
template <typename T>
constexpr int64_t kForwardDepth = 2048 / sizeof(T);

template <typename T>
constexpr int64_t kCachedForwardScratch = (kForwardDepth<T> + kForwardRows<T>)*kForwardCols;

// Rows of W that are panels at a time where W has so many: fewer than there is room for if they
// aren't all, as second-level caches have 512 KB mostly where there is no AVX-512.
template <typename T>
int64_t forward_depth(int64_t inputs) {
  return kVectorBytes == 64 || inputs <= kForwardDepth<T> ? kForwardDepth<T> : kDepthBlock;
}

// Whether W is taken to come from a cache.
template <typename T>
bool kernel_is_cached(int64_t inputs, int64_t outputs) {
  return inputs * outputs * int64_t{sizeof(T)} <= 8 << 20;
}

// Whether the first tile of rows of x makes the panels: it reads W a few bytes a row, which only a
// cache has fast, and with more rows of x there is less to hide. Of a deep layer's W a part is
// faster to copy before. Processors with AVX-512 have larger second-level caches mostly.
template <typename T>
bool panels_on_the_way(const ForwardJob<T>& job) {
  constexpr int64_t kFewRows = 256;
  const int64_t bytes = job.inputs * job.outputs * int64_t{sizeof(T)};
  if (job.batch > kFewRows || job.is_part) return false;
  if (kVectorBytes == 64) return kernel_is_cached<T>(job.inputs, job.outputs);
  return bytes <= 1 << 20 && job.batch * bytes <= 64 << 20;
}

template <typename T>
struct ForwardBlock {
  const ForwardJob<T>& job;
  int64_t begin, rows;
  int64_t first, width;  // columns
  bool copies_x;         // for its rows push each other out of the first-level cache
  int64_t depth;         // rows of W that are panels at a time
  T* panels;             // [ceil(width / kTileCols)][depth][kTileCols]
  T* product;            // [rows, kForwardCols]: x W, as long as rows of W are missing

  T* panel(int64_t col, int64_t k) const { return panels + col * depth + k * kTileCols<T>; }

  // A tile of rows that is finished at once has no memory of its own.
  T* product_row(int64_t i) const { return product + (job.inputs > depth ? i * kForwardCols : 0); }
};

// The first `valid` of kTileCols elements.
template <typename T>
void copy_valid(const T* from, int64_t valid, T* to) {
  if (valid == kTileCols<T>) {  // of a known size: without a call
    __builtin_memcpy(to, from, sizeof(T) * kTileCols<T>);
  } else {
    __builtin_memcpy(to, from, sizeof(T) * valid);
  }
}

// The first `valid` of kTileCols columns become a step of a panel; what is missing is 0.
template <typename T>
void copy_step(const T* from, int64_t valid, T* to) {
  copy_valid(from, valid, to);
  for (int64_t c = valid; c < kTileCols<T>; ++c) to[c] = T(0);
}

// Rows [k, k + depth) of W, from a block's column `col` on, as panels.
template <typename T>
void make_panels(const ForwardBlock<T>& block, int64_t k, int64_t depth, int64_t col) {
  constexpr int64_t kCols = kTileCols<T>;
  constexpr int64_t kRowsAhead = 16;  // each may be the only one of a page
  const ForwardJob<T>& job = block.job;
  for (int64_t i = 0; i < depth; ++i) {
    const T* const w = job.kernel + (k + i) * job.outputs + block.first;
    const int64_t ahead = min64(kRowsAhead, job.inputs - 1 - (k + i)) * job.outputs;
    for (int64_t j = col; j < block.width; j += kCols) {
      prefetch_row(w + ahead + j);
      copy_step(w + j, min64(kCols, block.width - j), block.panel(j, i));
    }
  }
}

// A tile's rows of x from row i of the block on, in place or in `copy`, [kTileRows, kDepthBlock].
template <typename T>
TileRows<T> rows_of_x(const ForwardBlock<T>& block, int64_t i, int rows, int64_t k, int64_t depth,
                      T* copy) {
  const ForwardJob<T>& job = block.job;
  const int64_t stride = job.x_stride;
  const T* const x = job.x + (block.begin + i) * stride + k;
  if (!block.copies_x) return {x, stride, 1};
  for (int r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < depth; ++j) copy[r * kDepthBlock + j] = x[r * stride + j];
  }
  return {copy, kDepthBlock, 1};
}

// The tile of x W at (row, col), its rows `stride` apart, becomes what is wanted of the
// activations. All its columns are worked on, also those past y, so that the loops are of a known
// length; they must not be unrolled, or the compiler makes no vectors of them.
template <typename T>
void finish_tile(const ForwardJob<T>& job, int64_t row, int rows, int64_t col, int64_t valid,
                 const T* product, int64_t stride) {
  constexpr int64_t kCols = kTileCols<T>;
  T bias[kCols] = {};
  if (job.bias != nullptr) copy_valid(job.bias + col, valid, bias);
  const int64_t corner = row * job.outputs + col;
  for (int r = 0; job.z != nullptr && r < rows; ++r) {
    T z[kCols];
#pragma GCC unroll 1
    for (int64_t j = 0; j < kCols; ++j) z[j] = product[r * stride + j] + bias[j];
    copy_valid(z, valid, job.z + corner + r * job.outputs);
  }
  if (job.y == nullptr) return;
  const auto store = [&](auto tag) {
    for (int r = 0; r < rows; ++r) {
      T y[kCols];
#pragma GCC unroll 1
      for (int64_t j = 0; j < kCols; ++j) {
        y[j] = activation_value<decltype(tag)::kActivation>(product[r * stride + j] + bias[j],
                                                            job.alpha);
      }
      copy_valid(y, valid, job.y + corner + r * job.outputs);
    }
  };
  if (job.activation == SPLITOP_LINEAR) return store(ActivationTag<SPLITOP_LINEAR>());
  with_activation(job.activation, store);
}

// A tile's rows of the product get what rows [k, k + depth) of W add to them, and are finished when
// that is all. The block's columns up to `in_making` have no panels yet.
template <typename T>
void multiply_rows(const ForwardBlock<T>& block, int64_t i, int rows, int64_t k, int64_t depth,
                   int64_t in_making) {
  constexpr int64_t kCols = kTileCols<T>;
  const ForwardJob<T>& job = block.job;
  alignas(kVectorBytes) T copy[kTileRows * kDepthBlock];
  for (int64_t d = 0; d < depth; d += kDepthBlock) {
    const int64_t steps = min64(kDepthBlock, depth - d);
    const TileRows<T> x = rows_of_x(block, i, rows, k + d, steps, copy);
    const bool is_last = k + d + steps == job.inputs;
    for (int64_t j = 0; j < block.width; j += kCols) {
      T* const panel = block.panel(j, d);
      T* const product = block.product_row(i) + j;
      if (j < in_making) {
        const T* const w = job.kernel + (k + d) * job.outputs + block.first + j;
        const PanelAsking<T> b{{w, job.outputs, panel}, job.inputs - (k + d) - 1};
        tile<T>(rows, steps, x, b, product, kForwardCols, k + d > 0);
      } else {
        tile<T>(rows, steps, x, panel, product, kForwardCols, k + d > 0);
      }
      if (!is_last) continue;
      finish_tile(job, block.begin + i, rows, block.first + j, min64(kCols, block.width - j),
                  product, kForwardCols);
    }
  }
}

// Rows [begin, end) of the layer's activations, where x W is the sum of `count` products in `sums`,
// [count, batch, outputs].
template <typename T>
void finish_sums(const ForwardJob<T>& job, const T* sums, int64_t count, int64_t begin,
                 int64_t end) {
  constexpr int64_t kCols = kTileCols<T>;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t col = 0; col < job.outputs; col += kCols) {
      const int64_t valid = min64(kCols, job.outputs - col);
      T product[kCols] = {}, summand[kCols] = {};
      for (int64_t part = 0; part < count; ++part) {
        copy_valid(sums + (part * job.batch + row) * job.outputs + col, valid, summand);
        for (int64_t j = 0; j < kCols; ++j) product[j] += summand[j];
      }
      finish_tile(job, row, 1, col, valid, product, kCols);
    }
  }
}

// Rows [begin, end) of columns [first, first + width) of the layer's activations: at most
// kForwardRows and kForwardCols.
template <typename T>
void cached_forward_block(const ForwardJob<T>& job, int64_t begin, int64_t end, int64_t first,
                          int64_t width, T* scratch) {
  const ForwardBlock<T> block{
      job,
      begin,
      end - begin,
      first,
      width,
      /*copies_x=*/rows_alias<T>(job.x_stride) && splitop_cpu_cache_ways() < kTileRows,
      forward_depth<T>(job.inputs),
      /*panels=*/scratch,
      /*product=*/scratch + kForwardDepth<T> * kForwardCols};
  const int64_t in_making = panels_on_the_way(job) ? width / kTileCols<T> * kTileCols<T> : 0;
  for (int64_t k = 0; k < job.inputs; k += block.depth) {
    const int64_t depth = min64(block.depth, job.inputs - k);
    make_panels(block, k, depth, in_making);
    for (int64_t i = 0; i < block.rows; i += kTileRows) {
      const int rows = static_cast<int>(min64(kTileRows, block.rows - i));
      multiply_rows(block, i, rows, k, depth, i == 0 ? in_making : 0);
    }
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_DENSE_FORWARD_H_
