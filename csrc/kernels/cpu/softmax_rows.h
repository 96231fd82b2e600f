// Rows of the gradient of softmax. Compiled once an instruction set.
#ifndef SPLITOP_KERNELS_CPU_SOFTMAX_ROWS_H_
#define SPLITOP_KERNELS_CPU_SOFTMAX_ROWS_H_

#include <stdint.h>

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/row_sums.h"

namespace splitop {
namespace {

template <typename T>
void softmax_gradient_rows(const SoftmaxGradientJob<T>& job, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const T* const dy = job.dy + i * job.width;
    const T* const y = job.y + i * job.width;
    T* const dx = job.dx + i * job.width;
    const T along = sum_of<T>(job.width, [=](int64_t j) { return dy[j] * y[j]; });
// dx may be dy, which the compiler's own check of overlap takes for a reason to use no vectors.
#pragma GCC ivdep
    for (int64_t j = 0; j < job.width; ++j) dx[j] = (dy[j] - along) * y[j];
  }
}

}  // namespace
}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_SOFTMAX_ROWS_H_
