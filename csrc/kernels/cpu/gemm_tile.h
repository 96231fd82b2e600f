// The register tile of every product: C[rows, lanes] (+)= A[rows, depth] B[depth, lanes].
//
// B is a panel, depth steps of kTileCols contiguous elements, or becomes one on the way. A is read
// one element at a time, so it may have any strides and needs no packing. Each element of C is one
// chain of multiply-adds over depth, in order, whatever the tile's height (and C (+)= adds such a
// chain): results do not depend on how the rows were shared out among threads.
#ifndef SPLITOP_KERNELS_CPU_GEMM_TILE_H_
#define SPLITOP_KERNELS_CPU_GEMM_TILE_H_

#include <stdint.h>

#include "kernels/cpu/vector.h"
#include "splitop/update_rule.h"

namespace splitop {
namespace {

// 24 accumulators of AVX-512's 32 registers; 12 of the 16 elsewhere.
constexpr int kTileRows = kVectorBytes == 64 ? 12 : 6;

template <typename T>
constexpr int kTileCols = 2 * Vector<T>::kLanes;

constexpr int64_t kDepthBlock = 256;  // steps of a product between two passes over its tiles

inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

// How many tiles so many rows make.
inline int64_t tiles_of(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }

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

// The row may end before: what lies behind it is asked for, too, but not read.
template <typename T>
inline void prefetch_row(const T* row) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t c = 0; c < kTileCols<T>; c += kLine) __builtin_prefetch(row + c, 0, 2);
}

// Memory that a tile asks for as it is made: rows of kTileCols elements, a few every some steps.
// All at once they would fill the queue of misses, and the product would wait for it.
template <typename T>
class RowsAhead {
 public:
  static constexpr int64_t kSteps = 8;  // between two requests

  void add(const T* first, int64_t stride, int64_t rows) {
    runs_[count_++] = {first, stride, rows};
    left_ += rows;
  }

  void start(int64_t depth) {
    each_ = (left_ * kSteps + depth - 1) / depth;
    if (count_ > 0) run_ = runs_[0];
  }

  void request() {
    const int64_t now = min64(each_, left_);
    left_ -= now;
    for (int64_t i = 0; i < now; ++i) {
      prefetch_row(run_.row);
      if (--run_.rows > 0) {
        run_.row += run_.stride;
      } else if (++current_ < count_) {
        run_ = runs_[current_];
      }
    }
  }

 private:
  struct Run {
    const T* row;
    int64_t stride;
    int64_t rows;
  };

  // A tile's rows of W and a panel; or a variable, its slots and a panel.
  static constexpr int kMost = kTileRows + SPLITOP_MAX_SLOTS;
  static_assert(kTileRows >= 2 && SPLITOP_MAX_SLOTS >= 1);

  Run runs_[kMost];
  Run run_;  // that is being asked for
  int count_ = 0;
  int current_ = 0;
  int64_t left_ = 0;
  int64_t each_ = 0;
};

// Rows that will be read next, by `parts` tiles' time: each of these asks for a share.
template <typename T>
struct NextRows {
  const T* first = nullptr;
  int64_t stride = 0;
  int64_t count = 0;

  void add_share(int64_t part, int64_t parts, RowsAhead<T>* ahead) const {
    const int64_t share = (count + parts - 1) / parts;
    const int64_t begin = part * share;
    if (begin < count) ahead->add(first + begin * stride, stride, min64(share, count - begin));
  }
};

struct NothingAhead {
  static constexpr int64_t kSteps = INT64_MAX / 2;

  void start(int64_t) {}
  void request() {}
};

// kTileCols columns of a row-major matrix that are made a panel while they are multiplied by: the
// multiplications hide the copying.
template <typename T>
struct PanelInMaking {
  static constexpr int64_t kStepsAhead = 64;  // several hundred cycles

  const T* rows;  // of any alignment
  int64_t stride;
  int64_t last;  // of the matrix's rows, from the first one here on
  T* panel;
};

// Step k of B.
template <typename T, typename V>
inline __attribute__((always_inline)) void read_step(const T* panel, int64_t k, V* b0, V* b1) {
  const V* const step = reinterpret_cast<const V*>(panel) + 2 * k;
  *b0 = step[0];
  *b1 = step[1];
}
template <typename T, typename V>
inline __attribute__((always_inline)) void read_step(PanelInMaking<T> b, int64_t k, V* b0, V* b1) {
  const T* const row = b.rows + k * b.stride;
  __builtin_memcpy(b0, row, sizeof(V));
  __builtin_memcpy(b1, row + kTileCols<T> / 2, sizeof(V));
  prefetch_row(b.rows + min64(k + b.kStepsAhead, b.last) * b.stride);
  V* const step = reinterpret_cast<V*>(b.panel) + 2 * k;
  step[0] = *b0;
  step[1] = *b1;
}

template <typename T, int kRows, typename B, typename Ahead>
inline __attribute__((always_inline)) void tile_of_rows(int64_t depth, TileRows<T> a, B b, T* c,
                                                        int64_t c_stride, bool accumulate,
                                                        Ahead ahead) {
  using V = typename Vector<T>::Type;
  V sum[kRows][2] = {};
  ahead.start(depth);
  for (int64_t k = 0; k < depth;) {
    for (const int64_t end = min64(k + Ahead::kSteps, depth); k < end; ++k) {
      V b0, b1;
      read_step(b, k, &b0, &b1);
      const T* column = a.data + k * a.depth_stride;
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const T element = column[r * a.row_stride];
        sum[r][0] += element * b0;
        sum[r][1] += element * b1;
      }
    }
    ahead.request();
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    V* out = reinterpret_cast<V*>(c + r * c_stride);
    out[0] = accumulate ? out[0] + sum[r][0] : sum[r][0];
    out[1] = accumulate ? out[1] + sum[r][1] : sum[r][1];
  }
}

template <typename T, int kRows, typename B, typename Ahead>
__attribute__((noinline)) void shorter_tile(int rows, int64_t depth, TileRows<T> a, B b, T* c,
                                            int64_t c_stride, bool accumulate, const Ahead& ahead) {
  if (rows == kRows) return tile_of_rows<T, kRows>(depth, a, b, c, c_stride, accumulate, ahead);
  if constexpr (kRows > 1) {
    shorter_tile<T, kRows - 1>(rows, depth, a, b, c, c_stride, accumulate, ahead);
  }
}

// b: a panel or a PanelInMaking. c and panels: aligned to a vector. rows: 1 to kTileRows. A whole
// tile is compiled for each use, with its strides: they take all registers there are.
template <typename T, typename B, typename Ahead = NothingAhead>
inline __attribute__((always_inline)) void tile(int rows, int64_t depth, TileRows<T> a, B b, T* c,
                                                int64_t c_stride, bool accumulate,
                                                const Ahead& ahead = Ahead()) {
  if (rows == kTileRows) {
    tile_of_rows<T, kTileRows>(depth, a, b, c, c_stride, accumulate, ahead);
  } else {
    shorter_tile<T, kTileRows - 1>(rows, depth, a, b, c, c_stride, accumulate, ahead);
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_GEMM_TILE_H_
