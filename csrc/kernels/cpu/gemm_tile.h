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

// Whether rows of so many elements start in the same set of the first-level cache.
template <typename T>
constexpr bool rows_alias(int64_t elements) {
  return elements * static_cast<int64_t>(sizeof(T)) % 4096 == 0;
}

// Rows of A: element (r, k) at data[r * row_stride + k * depth_stride].
template <typename T>
struct TileRows {
  const T* data;
  int64_t row_stride;
  int64_t depth_stride;
};

// Memory that a tile asks for as it is made: rows of kTileCols elements, a few at each step. All at
// once they would fill the queue of misses, and the product would wait for it.
template <typename T>
class RowsAhead {
 public:
  static constexpr int64_t kMost = kDepthBlock + kTileRows * kDepthBlock / kTileCols<T>;

  RowsAhead() {}  // leaves the rows as they are: there is one for each tile

  void add(const T* row) { rows_[count_++] = row; }

  const T* const* begin() const { return rows_; }
  const T* const* end() const { return rows_ + count_; }
  int64_t each_step(int64_t depth) const { return (count_ + depth - 1) / depth; }

 private:
  const T* rows_[kMost];
  int64_t count_ = 0;
};

template <typename T>
inline void prefetch_row(const T* row) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t c = 0; c < kTileCols<T>; c += kLine) __builtin_prefetch(row + c, 0, 2);
}

template <typename T, int kRows>
inline __attribute__((always_inline)) void tile_of_rows(int64_t depth, TileRows<T> a, const T* b,
                                                        T* c, int64_t c_stride, bool accumulate,
                                                        const RowsAhead<T>& ahead) {
  using V = typename Vector<T>::Type;
  V sum[kRows][2] = {};
  const V* panel = reinterpret_cast<const V*>(b);
  const T* const* next = ahead.begin();
  const int64_t each_step = ahead.each_step(depth);
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
    for (int64_t n = 0; n < each_step && next != ahead.end(); ++n) prefetch_row(*next++);
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
                 bool accumulate, const RowsAhead<T>& ahead = RowsAhead<T>()) {
  if (rows == kRows) return tile_of_rows<T, kRows>(depth, a, b, c, c_stride, accumulate, ahead);
  if constexpr (kRows > 1) tile<T, kRows - 1>(rows, depth, a, b, c, c_stride, accumulate, ahead);
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_GEMM_TILE_H_
