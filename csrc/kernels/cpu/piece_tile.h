// The register tile of a product whose A is no matrix in memory: its rows start anywhere, and their
// elements lie in pieces, at the same distances from the start of each. Compiled once an
// instruction set.
//
// As in gemm_tile.h, each element of C is one chain of multiply-adds over the steps, in order.
#ifndef SPLITOP_KERNELS_CPU_PIECE_TILE_H_
#define SPLITOP_KERNELS_CPU_PIECE_TILE_H_

#include <stdint.h>

#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/vector.h"

namespace splitop {
namespace {

// Steps [step, step + count) of B, and what they meet: the element at `offset` from where a row of
// A starts, and others after it.
struct Piece {
  int64_t offset;
  int64_t step;
  int64_t count;
};

// A for a tile. Steps in no piece add nothing.
template <typename T>
struct PieceRows {
  const T* base;
  int64_t starts[kTileRows];  // from there; a row may start before memory that its pieces are in
  const Piece* begin;
  const Piece* end;
  int64_t distance;  // between the elements of a piece
};

// store(r, v0, v1) gets a row's sums, two vectors.
template <typename T, int kRows, typename B, typename Store>
inline __attribute__((always_inline)) void piece_tile_of_rows(const PieceRows<T>& a, B b,
                                                              const Store& store) {
  using V = typename Vector<T>::Type;
  V sum[kRows][2] = {};
  const bool is_empty = a.begin == a.end;
  const int64_t first = is_empty ? 0 : a.begin->offset, distance = a.distance;
  const T* starts[kRows];  // of the first piece
  for (int r = 0; r < kRows; ++r) starts[r] = a.base + (is_empty ? 0 : a.starts[r] + first);
  for (const Piece* piece = a.begin; piece != a.end; ++piece) {
    int64_t offset = piece->offset - first;
    const int64_t end = piece->step + piece->count;
    for (int64_t k = piece->step; k < end; ++k, offset += distance) {
      V b0, b1;
      read_step(b, k, &b0, &b1);
      add_step<kRows>(b0, b1, [&](int r) { return starts[r][offset]; }, sum);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) store(r, sum[r][0], sum[r][1]);
}

template <typename T, int kRows, typename B, typename Store>
__attribute__((noinline)) void shorter_piece_tile(int rows, const PieceRows<T>& a, B b,
                                                  const Store& store) {
  if (rows == kRows) return piece_tile_of_rows<T, kRows>(a, b, store);
  if constexpr (kRows > 1) shorter_piece_tile<T, kRows - 1>(rows, a, b, store);
}

// b: a panel or a PanelInMaking. rows: 1 to kTileRows.
template <typename T, typename B, typename Store>
inline __attribute__((always_inline)) void piece_tile(int rows, const PieceRows<T>& a, B b,
                                                      const Store& store) {
  if (rows == kTileRows) {
    piece_tile_of_rows<T, kTileRows>(a, b, store);
  } else {
    shorter_piece_tile<T, kTileRows - 1>(rows, a, b, store);
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_PIECE_TILE_H_
