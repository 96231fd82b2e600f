// A block of the gradient of a convolution's filter, X^T G with X the matrix of windows. Compiled
// once an instruction set.
#ifndef SPLITOP_KERNELS_CPU_FILTER_GRADIENT_H_
#define SPLITOP_KERNELS_CPU_FILTER_GRADIENT_H_

#include <stdint.h>

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/dense_forward.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/windows.h"

namespace splitop {
namespace {

// Columns of X, rows of the gradient, that are worked on at a time, at most; and columns of G.
constexpr int64_t kFilterRows = 16 * kTileRows;
constexpr int64_t kFilterCols = kDepthBlock;

template <typename T>
struct FilterScratch {
  T windows[kDepthBlock * kFilterRows];
  T panel[kDepthBlock * kTileCols<T>];
  T sums[kFilterRows * kFilterCols];
};

// That of each worker is aligned as that of the first one.
static_assert(sizeof(FilterScratch<float>) % 64 == 0);
static_assert(sizeof(FilterScratch<double>) % 64 == 0);

// What rows [begin, begin + depth) of X and G add to the block's sums.
template <typename T>
void add_windows(const FilterJob<T>& job, const FilterBlock& block, int64_t begin, int64_t depth,
                 bool accumulate, FilterScratch<T>* s) {
  constexpr int64_t kCols = kTileCols<T>;
  copy_windows(*job.windows, begin, depth, block.row, block.rows, s->windows, kFilterRows);
  for (int64_t j = 0; j < block.cols; j += kCols) {
    const T* const g = job.gradient + begin * job.filters + block.col + j;
    const int64_t valid = min64(kCols, block.cols - j);
    for (int64_t i = 0; valid < kCols && i < depth; ++i) {
      copy_step(g + i * job.filters, valid, s->panel + i * kCols);
    }
    for (int64_t r = 0; r < block.rows; r += kTileRows) {
      const int rows = static_cast<int>(min64(kTileRows, block.rows - r));
      const TileRows<T> x{s->windows + r, 1, kFilterRows};
      T* const sums = s->sums + r * kFilterCols + j;
      if (r == 0 && valid == kCols) {
        const PanelInMaking<T> making{g, job.filters, s->panel};
        tile<T>(rows, depth, x, making, sums, kFilterCols, accumulate);
      } else {
        const T* const panel = s->panel;
        tile<T>(rows, depth, x, panel, sums, kFilterCols, accumulate);
      }
    }
  }
}

// What rows [begin, begin + depth) of G add to the sums of its columns: a sum of sums, whose error
// grows more slowly with their number.
template <typename T>
void add_columns(const FilterJob<T>& job, const FilterBlock& block, int64_t begin, int64_t depth,
                 T* sums) {
  T part[kFilterCols] = {};
  for (int64_t i = begin; i < begin + depth; ++i) {
    const T* const g = job.gradient + i * job.filters + block.col;
    for (int64_t j = 0; j < block.cols; ++j) part[j] += g[j];
  }
  for (int64_t j = 0; j < block.cols; ++j) sums[j] += part[j];
}

template <typename T>
void filter_block(const FilterJob<T>& job, const FilterBlock& block, T* scratch) {
  FilterScratch<T>* const s = reinterpret_cast<FilterScratch<T>*>(scratch);
  T* const bias_sums = block.row == 0 ? job.bias_sums + block.col : nullptr;
  for (int64_t j = 0; bias_sums != nullptr && j < block.cols; ++j) bias_sums[j] = T(0);
  for (int64_t begin = block.begin; begin < block.end; begin += kDepthBlock) {
    const int64_t depth = min64(kDepthBlock, block.end - begin);
    add_windows(job, block, begin, depth, begin > block.begin, s);
    if (bias_sums != nullptr) add_columns(job, block, begin, depth, bias_sums);
  }
  for (int64_t r = 0; r < block.rows; ++r) {
    T* const to = job.sums + (block.row + r) * job.filters + block.col;
    for (int64_t j = 0; j < block.cols; ++j) to[j] = s->sums[r * kFilterCols + j];
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_FILTER_GRADIENT_H_
