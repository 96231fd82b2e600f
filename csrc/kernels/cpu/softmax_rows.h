// Rows of softmax, and of its gradient. Compiled once an instruction set.
//
// A row is read several times, from a cache after the first.
#ifndef SPLITOP_KERNELS_CPU_SOFTMAX_ROWS_H_
#define SPLITOP_KERNELS_CPU_SOFTMAX_ROWS_H_

#include <stdint.h>

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/row_sums.h"
#include "kernels/elementary.h"

namespace splitop {
namespace {

constexpr int64_t kExponentials = 2048;  // about so many at a time

// Rows that lie one after the other, whose exponentials are made as if they were one: however short
// they are, these are vectors. A NaN, or an infinity as the largest, makes NaNs of its row,
// whatever the exponentials of the rest of it are.
template <typename T>
void softmax_rows(const SoftmaxJob<T>& job, int64_t begin, int64_t end) {
  const int64_t width = job.width;
  const int64_t most = width < kExponentials ? kExponentials / width : 1;
  for (int64_t first = begin; first < end; first += most) {
    const int64_t count = end - first < most ? end - first : most;
    const T* const xs = job.x + first * width;
    T* const ys = job.y + first * width;
    for (int64_t i = 0; i < count; ++i) {
      const T* const x = xs + i * width;
      T* const y = ys + i * width;
      const T largest = largest_of(width, x);
// y may be x, which the compiler's own check of overlap takes for a reason to use no vectors.
#pragma GCC ivdep
      for (int64_t j = 0; j < width; ++j) y[j] = x[j] - largest;
    }
    for (int64_t j = 0; j < count * width; ++j) ys[j] = exponential_up_to_one(ys[j]);
    for (int64_t i = 0; i < count; ++i) {
      T* const y = ys + i * width;
      const T scale = T(1) / sum_of<T>(width, [=](auto at) { return at(y); });
      for (int64_t j = 0; j < width; ++j) y[j] *= scale;
    }
  }
}

template <typename T>
void softmax_gradient_rows(const SoftmaxGradientJob<T>& job, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const T* const dy = job.dy + i * job.width;
    const T* const y = job.y + i * job.width;
    T* const dx = job.dx + i * job.width;
    const T along = sum_of<T>(job.width, [=](auto at) { return at(dy) * at(y); });
// dx may be dy, likewise.
#pragma GCC ivdep
    for (int64_t j = 0; j < job.width; ++j) dx[j] = (dy[j] - along) * y[j];
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_SOFTMAX_ROWS_H_
