// A block of one of the products of a batch: C = A B for up to kProductRows rows and kTileCols
// columns of C. Compiled once an instruction set.
//
// B becomes panels, kDepthBlock steps at a time. A is read in place, unless its rows push each
// other out of the first-level cache.
#ifndef SPLITOP_KERNELS_CPU_PRODUCT_BLOCK_H_
#define SPLITOP_KERNELS_CPU_PRODUCT_BLOCK_H_

#include <stdint.h>

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/transpose.h"

namespace splitop {
namespace {

constexpr int64_t kProductRows = 16 * kTileRows;

template <typename T>
constexpr int64_t kTileCopy = kTileRows * (kDepthBlock + kTileCols<T>);

// A panel, a block of C, and a tile's rows of A.
template <typename T>
constexpr int64_t kProductScratch = (kDepthBlock + kProductRows) * kTileCols<T> + kTileCopy<T>;

// That of each worker is aligned as that of the first one.
static_assert(kProductScratch<float> * sizeof(float) % 64 == 0);
static_assert(kProductScratch<double> * sizeof(double) % 64 == 0);

// Steps [begin, end) of a panel's columns from `first` on, one that B has or the one after these.
// Those that it lacks are 0.
template <typename T>
void copy_columns(const ProductJob<T>& job, const T* b, int64_t begin, int64_t end, int64_t first,
                  T* panel) {
  for (int64_t k = begin; k < end; ++k) {
    T* const step = panel + k * kTileCols<T>;
    const T* const row = b + k * job.b_depth;
    for (int64_t c = first; c < job.cols; ++c) step[c] = row[c * job.b_col];
    for (int64_t c = job.cols; c < kTileCols<T>; ++c) step[c] = T(0);
  }
}

// The panel of the first `depth` steps from b on.
template <typename T>
void make_panel(const ProductJob<T>& job, const T* b, int64_t depth, T* panel) {
  constexpr int64_t kLanes = Vector<T>::kLanes;
  const int64_t steps = job.b_depth == 1 ? depth / kLanes * kLanes : 0;
  const int64_t cols = job.cols / kLanes * kLanes;
  for (int64_t k = 0; k < steps; k += kLanes) {
    for (int64_t c = 0; c < cols; c += kLanes) {
      transpose_block(b + k + c * job.b_col, job.b_col, panel + k * kTileCols<T> + c, kTileCols<T>);
    }
  }
  if (cols < kTileCols<T>) copy_columns(job, b, 0, steps, cols, panel);
  copy_columns(job, b, steps, depth, 0, panel);
}

// The rows of A for a tile, copied where they would start in the same set of the cache.
template <typename T>
TileRows<T> tile_rows(const ProductJob<T>& job, const T* a, int64_t rows, int64_t depth, T* copy) {
  if (job.a_depth != 1 || !rows_alias<T>(job.a_row)) return {a, job.a_row, job.a_depth};
  constexpr int64_t kStride = kDepthBlock + kTileCols<T>;  // not a multiple of 4096 bytes
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < depth; ++k) copy[r * kStride + k] = a[r * job.a_row + k];
  }
  return {copy, kStride, 1};
}

template <typename T>
void store_rows(const T* block, int64_t rows, int64_t cols, T* c, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < cols; ++i) c[r * stride + i] = block[r * kTileCols<T> + i];
  }
}

template <typename T>
void product_block(const ProductJob<T>& job, T* scratch) {
  T* const panel = scratch;
  T* const block = panel + kDepthBlock * kTileCols<T>;
  T* const copy = block + kProductRows * kTileCols<T>;
  const bool in_making = job.b_col == 1 && job.cols == kTileCols<T>;
  for (int64_t first = 0; first < job.depth; first += kDepthBlock) {
    const int64_t depth = min64(kDepthBlock, job.depth - first);
    const T* const b = job.b + first * job.b_depth;
    if (!in_making) make_panel(job, b, depth, panel);
    for (int64_t r = 0; r < job.rows; r += kTileRows) {
      const int64_t rows = min64(kTileRows, job.rows - r);
      const TileRows<T> a =
          tile_rows(job, job.a + r * job.a_row + first * job.a_depth, rows, depth, copy);
      T* const sums = block + r * kTileCols<T>;
      if (in_making && r == 0) {
        const PanelInMaking<T> making{b, job.b_depth, panel};
        tile<T>(static_cast<int>(rows), depth, a, making, sums, kTileCols<T>, first > 0);
      } else {
        const T* const made = panel;
        tile<T>(static_cast<int>(rows), depth, a, made, sums, kTileCols<T>, first > 0);
      }
      if (first + depth == job.depth) {
        store_rows(sums, rows, job.cols, job.c + r * job.c_row, job.c_row);
      }
    }
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_PRODUCT_BLOCK_H_
