// Sums over a row. Compiled once an instruction set.
#ifndef SPLITOP_KERNELS_CPU_ROW_SUMS_H_
#define SPLITOP_KERNELS_CPU_ROW_SUMS_H_

#include <stdint.h>

#include "kernels/cpu/vector.h"

namespace splitop {
namespace {

// The sum of term(j) for j in [0, count), in several sums that grow side by side.
template <typename T, typename Term>
inline __attribute__((always_inline)) T sum_of(int64_t count, const Term& term) {
  constexpr int64_t kSums = 4 * Vector<T>::kLanes;
  T sums[kSums] = {};
  const int64_t whole = count - count % kSums;
  for (int64_t j = 0; j < whole; j += kSums) {
    for (int64_t s = 0; s < kSums; ++s) sums[s] += term(j + s);
  }
  for (int64_t j = whole; j < count; ++j) sums[j - whole] += term(j);
  T sum = 0;
  for (int64_t s = 0; s < kSums; ++s) sum += sums[s];
  return sum;
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_ROW_SUMS_H_
