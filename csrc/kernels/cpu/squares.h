// Sums of squares, in double, compiled once for each file that includes this.
#ifndef SPLITOP_KERNELS_CPU_SQUARES_H_
#define SPLITOP_KERNELS_CPU_SQUARES_H_

#include <stdint.h>

#include "kernels/cpu/short_floats.h"

namespace splitop {
namespace {

constexpr int64_t kSquareSums = 16;  // that grow side by side, in every instruction set

template <typename E>
double sum_squares(const E* values, int64_t count) {
  double sums[kSquareSums] = {};
  const int64_t whole = count - count % kSquareSums;
  for (int64_t i = 0; i < whole; i += kSquareSums) {
    for (int64_t j = 0; j < kSquareSums; ++j) {
      const double value = widen(values[i + j]);
      sums[j] += value * value;
    }
  }
  for (int64_t i = whole; i < count; ++i) {
    const double value = widen(values[i]);
    sums[i - whole] += value * value;
  }
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_SQUARES_H_
