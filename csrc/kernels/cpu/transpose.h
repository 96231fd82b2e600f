// Transposition of square blocks in registers. Compiled once an instruction set.
#ifndef SPLITOP_KERNELS_CPU_TRANSPOSE_H_
#define SPLITOP_KERNELS_CPU_TRANSPOSE_H_

#include <stdint.h>

#include "kernels/cpu/vector.h"

namespace splitop {
namespace {

// Exchanges the off-diagonal blocks of every 2 kStep square of a kLanes square, for kStep
// = 1, 2, 4, ...; after the last one the square is transposed.
template <typename T, int kStep>
inline __attribute__((always_inline)) void exchange_blocks(typename Vector<T>::Type* row) {
  using V = typename Vector<T>::Type;
  using Lane = typename Vector<T>::LaneIndex;
  constexpr int kLanes = Vector<T>::kLanes;
  if constexpr (kStep < kLanes) {
    Lane upper, lower;  // lanes [0, kLanes) come from the first row, the others from the second
    for (int l = 0; l < kLanes; ++l) {
      const bool first = (l & kStep) == 0;
      upper[l] = first ? l : kLanes + l - kStep;
      lower[l] = first ? l + kStep : kLanes + l;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if ((i & kStep) != 0) continue;
      const V a = row[i];
      const V b = row[i + kStep];
      row[i] = __builtin_shuffle(a, b, upper);
      row[i + kStep] = __builtin_shuffle(a, b, lower);
    }
    exchange_blocks<T, 2 * kStep>(row);
  }
}

// to = from^T for kLanes rows of kLanes elements; `to` aligned to a vector.
template <typename T>
void transpose_block(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  using V = typename Vector<T>::Type;
  constexpr int kLanes = Vector<T>::kLanes;
  V row[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) __builtin_memcpy(row + i, from + i * from_stride, sizeof(V));
  exchange_blocks<T, 1>(row);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) *reinterpret_cast<V*>(to + i * to_stride) = row[i];
}

// to = from^T for a square of `size` elements a side, a multiple of kLanes.
template <typename T>
void transpose_square(int64_t size, const T* from, T* to) {
  for (int64_t i = 0; i < size; i += Vector<T>::kLanes) {
    for (int64_t j = 0; j < size; j += Vector<T>::kLanes) {
      transpose_block(from + i * size + j, size, to + j * size + i, size);
    }
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_TRANSPOSE_H_
