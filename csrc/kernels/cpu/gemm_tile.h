// The register tile of every product: C[rows, lanes] (+)= A[rows, depth] B[depth, lanes].
//
// B is a panel: depth steps of kTileCols contiguous elements. A is read one element at a
// time, so it may have any strides and needs no packing. Each element of C is one chain of
// multiply-adds over depth, in order, whatever the tile's height (and C (+)= adds such a
// chain): results do not depend on how the rows were shared out among threads.
#ifndef SPLITOP_KERNELS_CPU_GEMM_TILE_H_
#define SPLITOP_KERNELS_CPU_GEMM_TILE_H_

#include <stdint.h>

#include "kernels/cpu/vector.h"

namespace splitop {
namespace {

// 24 accumulators of AVX-512's 32 registers; 12 of the 16 elsewhere.
constexpr int kTileRows = kVectorBytes == 64 ? 12 : 6;

template <typename T>
constexpr int kTileCols = 2 * Vector<T>::kLanes;

constexpr int64_t kDepthBlock = 256;  // steps of a product between two passes over its tiles

inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

// Rows of A: element (r, k) at data[r * row_stride + k * depth_stride].
template <typename T>
struct TileRows {
  const T* data;
  int64_t row_stride;
  int64_t depth_stride;
};

template <typename T, int kRows>
inline __attribute__((always_inline)) void tile_of_rows(int64_t depth, TileRows<T> a, const T* b,
                                                        T* c, int64_t c_stride, bool accumulate) {
  using V = typename Vector<T>::Type;
  V sum[kRows][2] = {};
  const V* panel = reinterpret_cast<const V*>(b);
  for (int64_t k = 0; k < depth; ++k) {
    const V b0 = panel[2 * k];
    const V b1 = panel[2 * k + 1];
    const T* column = a.data + k * a.depth_stride;
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const T element = column[r * a.row_stride];
      sum[r][0] += element * b0;
      sum[r][1] += element * b1;
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    V* out = reinterpret_cast<V*>(c + r * c_stride);
    out[0] = accumulate ? out[0] + sum[r][0] : sum[r][0];
    out[1] = accumulate ? out[1] + sum[r][1] : sum[r][1];
  }
}

// c and b: aligned to a vector. rows: 1 to kTileRows.
template <typename T, int kRows = kTileRows>
inline void tile(int rows, int64_t depth, TileRows<T> a, const T* b, T* c, int64_t c_stride,
                 bool accumulate) {
  if (rows == kRows) return tile_of_rows<T, kRows>(depth, a, b, c, c_stride, accumulate);
  if constexpr (kRows > 1) tile<T, kRows - 1>(rows, depth, a, b, c, c_stride, accumulate);
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_GEMM_TILE_H_
