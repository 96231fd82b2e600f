// The register tile of a product: C[rows, lanes] (+)= A[rows, depth] B[depth, lanes]. That of an A
// without strides, as windows in place are, is in piece_tile.h.
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

// How many tiles so many rows make.
constexpr int64_t tiles_of(int64_t rows) { return ceil_div(rows, kTileRows); }

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

// What a tile asks for as it is made, to have it in the second-level cache when it is wanted. All
// at once it would fill the queue of misses, and the product would wait for it. What the loops over
// the steps have to keep for it costs the product, too: hence three kinds.
struct NothingAhead {
  static constexpr int64_t steps = INT64_MAX / 2;  // between two requests

  void step() {}
  void request() {}
};

// Contiguous memory, or rows of it, a few bytes at each step: all of it up to kLines lines of 64
// bytes a step.
template <int kLines = 1>
class BytesAhead {
 public:
  int64_t steps;

  BytesAhead(const void* first, int64_t bytes, int64_t depth)
      : BytesAhead(first, ceil_div(bytes, depth), depth, depth, 0) {}

  // rows: 1 to `depth` of them, of so many bytes, `stride` bytes apart.
  static BytesAhead of_rows(const void* first, int64_t bytes, int64_t depth, int64_t rows,
                            int64_t stride) {
    const int64_t row_steps = depth / rows, each = ceil_div(bytes, row_steps);
    return {first, each, row_steps, row_steps, stride - each * row_steps};
  }

  // From `first` on, where a row has `left` steps left, of `each` bytes; then others of
  // `row_steps`, `jump` bytes further on.
  static BytesAhead within_rows(const void* first, int64_t each, int64_t left, int64_t row_steps,
                                int64_t jump) {
    return {first, each, left, row_steps, jump};
  }

  inline __attribute__((always_inline)) void step() {
    for (int line = 0; line < kLines; ++line) __builtin_prefetch(next_ + 64 * line, 0, 2);
    next_ += each_;
  }
  inline __attribute__((always_inline)) void request() {
    next_ += jump_;
    steps = row_steps_;
  }

 private:
  BytesAhead(const void* first, int64_t each, int64_t left, int64_t row_steps, int64_t jump)
      : steps(left),
        next_(static_cast<const char*>(first)),
        each_(each),
        row_steps_(row_steps),
        jump_(jump) {}

  const char* next_;
  int64_t each_;
  int64_t row_steps_;
  int64_t jump_;
};

// Rows of kTileCols anywhere, a few every some steps.
template <typename T>
class RowsAhead {
 public:
  const int64_t steps;

  // For a tile of `depth` steps.
  RowsAhead(const T* const* rows, int64_t count, int64_t depth)
      : steps(count < depth ? depth / (count > 0 ? count : 1) : 1),
        next_(rows),
        end_(rows + count),
        each_(ceil_div(count, depth)) {}

  void step() {}
  inline __attribute__((always_inline)) void request() {
    for (int64_t r = 0; r < each_ && next_ < end_; ++r) prefetch_row(*next_++);
  }

 private:
  const T* const* next_;
  const T* const* end_;
  int64_t each_;
};

// Room for those: a tile's rows of a variable and its slots, and a panel.
template <typename T>
struct AskedRows {
  const T* at[kTileRows * (1 + SPLITOP_MAX_SLOTS) + kDepthBlock];
  int64_t count = 0;

  void add(const T* first, int64_t stride, int64_t rows) {
    for (int64_t r = 0; r < rows; ++r) at[count++] = first + r * stride;
  }
};

// A panel that will be read next, when `parts` tiles are made: each asks for its part. Where there
// is none it has no steps, but an address that is mapped, as the processor looks that up.
template <typename T>
struct NextPanel {
  const T* first;
  int64_t steps;

  BytesAhead<> bytes(int64_t part, int64_t parts, int64_t depth) const {
    const int64_t bytes = steps * kTileCols<T> * static_cast<int64_t>(sizeof(T)) / parts;
    return {reinterpret_cast<const char*>(first) + part * bytes, bytes, depth};
  }

  void add_rows(int64_t part, int64_t parts, AskedRows<T>* asked) const {
    const int64_t begin = steps * part / parts;
    asked->add(first + begin * kTileCols<T>, kTileCols<T>, steps * (part + 1) / parts - begin);
  }
};

// kTileCols columns of a row-major matrix that are made a panel while they are multiplied by: the
// multiplications hide the copying.
template <typename T>
struct PanelInMaking {
  const T* rows;  // of any alignment
  int64_t stride;
  T* panel;
};

// The same, which asks for the rows itself.
template <typename T>
struct PanelAsking : PanelInMaking<T> {
  static constexpr int64_t kStepsAhead = 64;  // several hundred cycles

  int64_t last;  // of the matrix's rows, from the first one here on
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
  V* const step = reinterpret_cast<V*>(b.panel) + 2 * k;
  step[0] = *b0;
  step[1] = *b1;
}
template <typename T, typename V>
inline __attribute__((always_inline)) void read_step(PanelAsking<T> b, int64_t k, V* b0, V* b1) {
  read_step<T>(static_cast<PanelInMaking<T>>(b), k, b0, b1);
  prefetch_row(b.rows + min64(k + b.kStepsAhead, b.last) * b.stride);
}

// What a step adds to a tile: element(r) of A for each row, times that row of B.
template <int kRows, typename V, typename Element>
inline __attribute__((always_inline)) void add_step(V b0, V b1, const Element& element,
                                                    V (*sum)[2]) {
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const auto a = element(r);
    sum[r][0] += a * b0;
    sum[r][1] += a * b1;
  }
}

// A tile's sums become rows of C, or are added to them.
template <typename T>
struct StoreTile {
  using V = typename Vector<T>::Type;

  T* c;  // aligned to a vector, as are its rows
  int64_t stride;
  bool accumulate;

  inline __attribute__((always_inline)) void operator()(int r, V v0, V v1) const {
    V* const out = reinterpret_cast<V*>(c + r * stride);
    out[0] = accumulate ? out[0] + v0 : v0;
    out[1] = accumulate ? out[1] + v1 : v1;
  }
};

// ahead: by value, so that it stays in registers.
template <typename T, int kRows, typename B, typename Ahead>
inline __attribute__((always_inline)) void tile_of_rows(int64_t depth, TileRows<T> a, B b, T* c,
                                                        int64_t c_stride, bool accumulate,
                                                        Ahead ahead) {
  using V = typename Vector<T>::Type;
  V sum[kRows][2] = {};
  for (int64_t k = 0; k < depth;) {
    for (const int64_t end = min64(k + ahead.steps, depth); k < end; ++k) {
      V b0, b1;
      read_step(b, k, &b0, &b1);
      ahead.step();
      const T* column = a.data + k * a.depth_stride;
      add_step<kRows>(b0, b1, [=](int r) { return column[r * a.row_stride]; }, sum);
    }
    ahead.request();
  }
  const StoreTile<T> store{c, c_stride, accumulate};
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) store(r, sum[r][0], sum[r][1]);
}

template <typename T, int kRows, typename B, typename Ahead>
__attribute__((noinline)) void shorter_tile(int rows, int64_t depth, TileRows<T> a, B b, T* c,
                                            int64_t c_stride, bool accumulate, const Ahead& ahead) {
  if (rows == kRows) return tile_of_rows<T, kRows>(depth, a, b, c, c_stride, accumulate, ahead);
  if constexpr (kRows > 1) {
    shorter_tile<T, kRows - 1>(rows, depth, a, b, c, c_stride, accumulate, ahead);
  }
}

// b: a panel, a PanelInMaking or a PanelAsking. c and panels: aligned to a vector. rows: 1 to
// kTileRows. A whole tile is compiled for each use, with its strides: they take all registers there
// are.
template <typename T, typename B, typename Ahead>
inline __attribute__((always_inline)) void tile(int rows, int64_t depth, TileRows<T> a, B b, T* c,
                                                int64_t c_stride, bool accumulate,
                                                const Ahead& ahead) {
  if (rows == kTileRows) {
    tile_of_rows<T, kTileRows>(depth, a, b, c, c_stride, accumulate, ahead);
  } else {
    shorter_tile<T, kTileRows - 1>(rows, depth, a, b, c, c_stride, accumulate, ahead);
  }
}

template <typename T, typename B>
inline __attribute__((always_inline)) void tile(int rows, int64_t depth, TileRows<T> a, B b, T* c,
                                                int64_t c_stride, bool accumulate) {
  tile<T>(rows, depth, a, b, c, c_stride, accumulate, NothingAhead());
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_GEMM_TILE_H_
