// ||x^T G||^2 = <x x^T, G G^T> without the product x^T G, compiled once an instruction set.
//
// The sum runs over pairs of rows (i, j) of the batch: (x_i . x_j) (G_i . G_j), and both factors
// are symmetric. A task takes a block of pairs; no matrix of [batch, batch] exists. All is done in
// double: where x^T G is much smaller than x and G the terms cancel.
#ifndef SPLITOP_KERNELS_CPU_GRAM_H_
#define SPLITOP_KERNELS_CPU_GRAM_H_

#include <stdint.h>

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/short_floats.h"
#include "kernels/cpu/squares.h"

namespace splitop {
namespace {

constexpr int64_t kGramDepth = 256;  // columns between two passes over the tiles

static_assert(kGramRows % kTileRows == 0 && kGramRows % kTileCols<double> == 0);

// In a worker's scratch.
struct GramBuffers {
  double left[kGramRows * kGramDepth];   // rows
  double right[kGramRows * kGramDepth];  // panels of kTileCols rows
  double products[2][kGramRows * kGramRows];
};

static_assert(sizeof(GramBuffers) % kVectorBytes == 0);

template <typename E>
void pack_rows(const E* rows, int64_t cols, int64_t count, int64_t depth, double* left) {
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t k = 0; k < depth; ++k) left[i * kGramDepth + k] = widen(rows[i * cols + k]);
  }
}

template <typename E>
void pack_panels(const E* rows, int64_t cols, int64_t count, int64_t depth, double* right) {
  constexpr int64_t kCols = kTileCols<double>;
  for (int64_t j = 0; j < kGramRows; ++j) {
    double* panel = right + j / kCols * kCols * kGramDepth + j % kCols;
    for (int64_t k = 0; k < depth; ++k) {
      panel[k * kCols] = j < count ? widen(rows[j * cols + k]) : 0;
    }
  }
}

// a_i . a_j for the pairs of a block.
template <typename E>
void row_products(const E* a, int64_t cols, const GramBlock& block, GramBuffers* buffers,
                  double* products) {
  constexpr int64_t kCols = kTileCols<double>;
  for (int64_t k = 0; k < cols; k += kGramDepth) {
    const int64_t depth = cols - k < kGramDepth ? cols - k : kGramDepth;
    pack_rows(a + block.row * cols + k, cols, block.rows, depth, buffers->left);
    pack_panels(a + block.col * cols + k, cols, block.cols, depth, buffers->right);
    for (int64_t j = 0; j < block.cols; j += kCols) {
      for (int64_t i = 0; i < block.rows; i += kTileRows) {
        const int64_t left = block.rows - i;
        const int rows = static_cast<int>(left < kTileRows ? left : kTileRows);
        tile<double>(rows, depth, {buffers->left + i * kGramDepth, kGramDepth, 1},
                     buffers->right + j * kGramDepth, products + i * kGramRows + j, kGramRows,
                     k > 0);
      }
    }
  }
}

// The part of the sum that a block of pairs has. A block beside the diagonal counts twice.
template <typename E>
double gram_block(const GradientSource<E>& source, const GramBlock& block, void* scratch) {
  auto* buffers = static_cast<GramBuffers*>(scratch);
  double* const of_x = buffers->products[0];
  double* const of_g = buffers->products[1];
  row_products(source.x, source.inputs, block, buffers, of_x);
  row_products(source.gradient, source.outputs, block, buffers, of_g);
  double sum = 0;
  for (int64_t i = 0; i < block.rows; ++i) {
    for (int64_t j = 0; j < block.cols; ++j) {
      sum += of_x[i * kGramRows + j] * of_g[i * kGramRows + j];
    }
  }
  return block.row == block.col ? sum : 2 * sum;
}

// The sums of the squares of each of the rows [begin, end) of x^T G, which is worked out in double.
template <typename E>
void weight_squares_in_double(const GradientSource<E>& source, int64_t begin, int64_t end,
                              double* squares) {
  double sums[kGramDepth];
  for (int64_t i = begin; i < end; ++i) {
    squares[i] = 0;
    for (int64_t first = 0; first < source.outputs; first += kGramDepth) {
      const int64_t left = source.outputs - first;
      const int64_t width = left < kGramDepth ? left : kGramDepth;
      for (int64_t j = 0; j < width; ++j) sums[j] = 0;
      for (int64_t b = 0; b < source.batch; ++b) {
        const double x = widen(source.x[b * source.inputs + i]);
        const E* g = source.gradient + b * source.outputs + first;
        for (int64_t j = 0; j < width; ++j) sums[j] += x * static_cast<double>(widen(g[j]));
      }
      squares[i] += sum_squares(sums, width);
    }
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_GRAM_H_
