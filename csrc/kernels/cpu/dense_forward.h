// The forward pass of a dense layer, y = act(x W + b). Compiled once an instruction set.
//
// A task owns some rows of a panel of columns of y, as wide as a register tile. It copies those
// columns of W, which takes little time beside the product, and reads x in place.
#ifndef SPLITOP_KERNELS_CPU_DENSE_FORWARD_H_
#define SPLITOP_KERNELS_CPU_DENSE_FORWARD_H_

#include "kernels/cpu/activation_values.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/gemm_tile.h"

namespace splitop {
namespace {

// A register tile of z, then of y.
template <typename T>
struct OutputTile {
  static constexpr int64_t kRows = kTileRows;
  static constexpr int64_t kCols = kTileCols<T>;
  alignas(kVectorBytes) T at[kRows][kCols];
};

// Columns [first, first + width) of W, [inputs][kTileCols], and of b; what is missing is 0.
template <typename T>
void pack_columns(const ForwardJob<T>& job, int64_t first, int64_t width, T* panel, T* bias) {
  constexpr int64_t kCols = kTileCols<T>;
  for (int64_t i = 0; i < job.inputs; ++i) {
    const T* w = job.kernel + i * job.outputs + first;
    T* to = panel + i * kCols;
    if (width == kCols) {
      __builtin_memcpy(to, w, sizeof(T) * kCols);
    } else {
      for (int64_t j = 0; j < kCols; ++j) to[j] = j < width ? w[j] : T(0);
    }
  }
  const bool has_bias = job.bias != nullptr;
  for (int64_t j = 0; j < kCols; ++j) bias[j] = has_bias && j < width ? job.bias[first + j] : T(0);
}

template <typename T>
void store_tile(const OutputTile<T>& tile, int64_t rows, int64_t width, int64_t stride, T* to) {
  constexpr int64_t kCols = OutputTile<T>::kCols;
  for (int64_t i = 0; i < rows; ++i) {
    if (width == kCols) {
      __builtin_memcpy(to + i * stride, tile.at[i], sizeof(T) * kCols);
    } else {
      for (int64_t j = 0; j < width; ++j) to[i * stride + j] = tile.at[i][j];
    }
  }
}

template <typename T>
void activate_tile(splitop_activation activation, T alpha, int64_t rows, OutputTile<T>& tile) {
  with_activation(activation, [&](auto tag) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < OutputTile<T>::kCols; ++j) {
        tile.at[i][j] = activation_value<decltype(tag)::kActivation>(tile.at[i][j], alpha);
      }
    }
  });
}

// x W of a tile becomes what is wanted of its activations.
template <typename T>
void finish_tile(const ForwardJob<T>& job, const T* bias, int64_t rows, int64_t width,
                 int64_t corner, OutputTile<T>& tile) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < OutputTile<T>::kCols; ++j) tile.at[i][j] += bias[j];
  }
  if (job.z != nullptr) store_tile(tile, rows, width, job.outputs, job.z + corner);
  if (job.y == nullptr) return;
  activate_tile(job.activation, job.alpha, rows, tile);
  store_tile(tile, rows, width, job.outputs, job.y + corner);
}

// Rows [begin, end) of columns [first, first + width) of the layer's activations; at most a panel.
template <typename T>
void forward_panel(const ForwardJob<T>& job, int64_t begin, int64_t end, int64_t first,
                   int64_t width, T* panel) {
  constexpr int64_t kCols = kTileCols<T>;
  alignas(kVectorBytes) T bias[kCols];
  OutputTile<T> product;
  pack_columns(job, first, width, panel, bias);
  for (int64_t row = begin; row < end; row += kTileRows) {
    const int rows = static_cast<int>(min64(kTileRows, end - row));
    const T* x = job.x + row * job.inputs;
    for (int64_t k = 0; k < job.inputs; k += kDepthBlock) {
      const int64_t depth = min64(kDepthBlock, job.inputs - k);
      tile<T>(rows, depth, {x + k, job.inputs, 1}, panel + k * kCols, product.at[0], kCols, k > 0);
    }
    finish_tile(job, bias, rows, width, row * job.outputs + first, product);
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_DENSE_FORWARD_H_
