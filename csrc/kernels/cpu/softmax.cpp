// The gradient of softmax on CPUs: blocks of rows are shared out among the workers.
#include "splitop/softmax.h"

#include "kernels/checks.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/row_blocks.h"

namespace splitop {
namespace {

constexpr double kFlops = 6;  // of an element, in arithmetic

template <typename T>
void run(const splitop_softmax_gradient& gradient, const splitop_executor& executor) {
  const DenseChainKernels<T>& kernels = dense_chain_kernels<T>();
  const SoftmaxGradientJob<T> job{gradient.width, static_cast<const T*>(gradient.dy),
                                  static_cast<const T*>(gradient.y), static_cast<T*>(gradient.dx)};
  parallel_rows(
      executor, gradient.rows, gradient.width, kFlops,
      [&](int64_t, int64_t begin, int64_t end) { kernels.softmax_gradient_rows(job, begin, end); });
}

}  // namespace
}  // namespace splitop

splitop_status splitop_cpu_softmax_gradient(const splitop_softmax_gradient* gradient,
                                            const splitop_executor* executor) {
  if (!splitop::valid(gradient) || !splitop::valid(executor)) return SPLITOP_INVALID_ARGUMENT;
  if (gradient->rows == 0 || gradient->width == 0) return SPLITOP_OK;
  if (gradient->dtype == SPLITOP_FLOAT32) {
    splitop::run<float>(*gradient, *executor);
  } else {
    splitop::run<double>(*gradient, *executor);
  }
  return SPLITOP_OK;
}
