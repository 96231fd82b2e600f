// The forward pass of a dense layer, y = act(x W + b). Compiled once an instruction set.
//
// A task owns a block of y. It goes through W, kDepthBlock rows at a time: those of its columns
// are copied to panels, and while all its rows of x are multiplied by them, the next ones are asked
// for.
#ifndef SPLITOP_KERNELS_CPU_DENSE_FORWARD_H_
#define SPLITOP_KERNELS_CPU_DENSE_FORWARD_H_

#include "kernels/cpu/activation_values.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/gemm_tile.h"

namespace splitop {
namespace {

constexpr int64_t kForwardCols = 128;  // of y, at most, that a task makes
constexpr int64_t kForwardRows = 384;  // likewise

// What a worker holds: rows of W, panel by panel, and x W.
template <typename T>
struct ForwardScratch {
  T* panels;   // [width / kTileCols][kDepthBlock][kTileCols]
  T* product;  // [rows, kForwardCols]

  explicit ForwardScratch(T* scratch)
      : panels(scratch), product(scratch + kDepthBlock * kForwardCols) {}

  static constexpr int64_t kSize = (kDepthBlock + kForwardRows) * kForwardCols;
};

// Rows [k, k + depth) and columns [first, first + width) of W as panels; what is missing is 0.
template <typename T>
void pack_kernel(const ForwardJob<T>& job, int64_t k, int64_t depth, int64_t first, int64_t width,
                 T* panels) {
  constexpr int64_t kCols = kTileCols<T>;
  for (int64_t i = 0; i < depth; ++i) {
    const T* w = job.kernel + (k + i) * job.outputs + first;
    for (int64_t j = 0; j < width; j += kCols) {
      T* to = panels + j * kDepthBlock + i * kCols;
      const int64_t valid = min64(kCols, width - j);
      if (valid == kCols) {
        __builtin_memcpy(to, w + j, sizeof(T) * kCols);
      } else {
        for (int64_t c = 0; c < kCols; ++c) to[c] = c < valid ? w[j + c] : T(0);
      }
    }
  }
}

// Rows of x are read in place, or copied to `copy`, [kTileRows, kDepthBlock], where they would
// push each other out of the first-level cache.
template <typename T>
TileRows<T> rows_of_x(const ForwardJob<T>& job, int64_t row, int rows, int64_t k, int64_t depth,
                      T* copy) {
  const T* x = job.x + row * job.inputs + k;
  if (!rows_alias<T>(job.inputs)) return {x, job.inputs, 1};
  for (int r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < depth; ++j) copy[r * kDepthBlock + j] = x[r * job.inputs + j];
  }
  return {copy, kDepthBlock, 1};
}

// Rows [row, row + rows) and columns [col, col + cols) of a matrix.
template <typename T>
struct Block {
  const T* matrix;
  int64_t stride;
  int64_t row, rows;
  int64_t col, cols;
};

// Asks for one of `parts` shares of the block's rows.
template <typename T>
void add_share(const Block<T>& block, int64_t part, int64_t parts, RowsAhead<T>* ahead) {
  const int64_t end = block.rows * (part + 1) / parts;
  for (int64_t i = block.rows * part / parts; i < end; ++i) {
    const T* row = block.matrix + (block.row + i) * block.stride + block.col;
    for (int64_t j = 0; j < block.cols; j += kTileCols<T>) ahead->add(row + j);
  }
}

// The product gets what rows [k, k + depth) of W add to it. It has `rows` rows, from `begin` on.
template <typename T>
void add_to_product(const ForwardJob<T>& job, int64_t begin, int64_t rows, int64_t first,
                    int64_t width, int64_t k, const ForwardScratch<T>& scratch) {
  constexpr int64_t kCols = kTileCols<T>;
  alignas(kVectorBytes) T copy[kTileRows * kDepthBlock];
  const int64_t depth = min64(kDepthBlock, job.inputs - k);
  pack_kernel(job, k, depth, first, width, scratch.panels);
  const int64_t next = k + depth;
  const int64_t next_depth = min64(kDepthBlock, job.inputs - next);
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  const int64_t panels = (width + kCols - 1) / kCols;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t i = t * kTileRows;
    const int tile_rows = static_cast<int>(min64(kTileRows, rows - i));
    const TileRows<T> x = rows_of_x(job, begin + i, tile_rows, k, depth, copy);
    const int64_t next_i = min64(i + kTileRows, rows);
    const Block<T> next_x{job.x, job.inputs, begin + next_i, min64(kTileRows, rows - next_i),
                          k,     depth};
    for (int64_t j = 0; j < width; j += kCols) {
      RowsAhead<T> ahead;
      const Block<T> next_w{job.kernel, job.outputs, next, next_depth, first + j, kCols};
      add_share(next_w, t, tiles, &ahead);
      add_share(next_x, j / kCols, panels, &ahead);
      tile<T>(tile_rows, depth, x, scratch.panels + j * kDepthBlock,
              scratch.product + i * kForwardCols + j, kForwardCols, k > 0, ahead);
    }
  }
}

template <typename T>
void copy_rows(const T* from, int64_t rows, int64_t width, int64_t stride, T* to) {
  for (int64_t i = 0; i < rows; ++i) {
    __builtin_memcpy(to + i * stride, from + i * kForwardCols, sizeof(T) * width);
  }
}

// x W becomes what is wanted of the activations from `corner` on.
template <typename T>
void finish_product(const ForwardJob<T>& job, int64_t corner, int64_t rows, const T* bias,
                    int64_t width, T* product) {
  for (int64_t i = 0; bias != nullptr && i < rows; ++i) {
    for (int64_t j = 0; j < width; ++j) product[i * kForwardCols + j] += bias[j];
  }
  if (job.z != nullptr) copy_rows(product, rows, width, job.outputs, job.z + corner);
  if (job.y == nullptr) return;
  with_activation(job.activation, [&](auto tag) {
    for (int64_t i = 0; i < rows; ++i) {
      T* const z = product + i * kForwardCols;
      for (int64_t j = 0; j < width; ++j) {
        z[j] = activation_value<decltype(tag)::kActivation>(z[j], job.alpha);
      }
    }
  });
  copy_rows(product, rows, width, job.outputs, job.y + corner);
}

// Rows [begin, end) of columns [first, first + width) of the layer's activations: at most
// kForwardRows and kForwardCols.
template <typename T>
void forward_block(const ForwardJob<T>& job, int64_t begin, int64_t end, int64_t first,
                   int64_t width, T* memory) {
  const ForwardScratch<T> scratch(memory);
  for (int64_t k = 0; k < job.inputs; k += kDepthBlock) {
    add_to_product(job, begin, end - begin, first, width, k, scratch);
  }
  finish_product(job, begin * job.outputs + first, end - begin,
                 job.bias != nullptr ? job.bias + first : nullptr, width, scratch.product);
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_DENSE_FORWARD_H_
