// Softmax and its gradient on CPUs: blocks of rows are shared out among the workers.
#include "splitop/softmax.h"

#include "kernels/checks.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/row_blocks.h"

namespace splitop {
namespace {

// Of an element, in arithmetic.
constexpr double kFlops = 30;
constexpr double kGradientFlops = 6;

template <typename T>
void run(const splitop_softmax& softmax, const splitop_executor& executor) {
  const DenseChainKernels<T>& kernels = dense_chain_kernels<T>();
  const SoftmaxJob<T> job{softmax.width, static_cast<const T*>(softmax.x),
                          static_cast<T*>(softmax.y)};
  parallel_rows(
      executor, softmax.rows, softmax.width, kFlops,
      [&](int64_t, int64_t begin, int64_t end) { kernels.softmax_rows(job, begin, end); });
}

template <typename T>
void run(const splitop_softmax_gradient& gradient, const splitop_executor& executor) {
  const DenseChainKernels<T>& kernels = dense_chain_kernels<T>();
  const SoftmaxGradientJob<T> job{gradient.width, static_cast<const T*>(gradient.dy),
                                  static_cast<const T*>(gradient.y), static_cast<T*>(gradient.dx)};
  parallel_rows(
      executor, gradient.rows, gradient.width, kGradientFlops,
      [&](int64_t, int64_t begin, int64_t end) { kernels.softmax_gradient_rows(job, begin, end); });
}

// Of either.
template <typename Call>
splitop_status run_call(const Call* call, const splitop_executor* executor) {
  if (!valid(call) || !valid(executor)) return SPLITOP_INVALID_ARGUMENT;
  if (call->rows == 0 || call->width == 0) return SPLITOP_OK;
  if (call->dtype == SPLITOP_FLOAT32) {
    run<float>(*call, *executor);
  } else {
    run<double>(*call, *executor);
  }
  return SPLITOP_OK;
}

}  // namespace
}  // namespace splitop

splitop_status splitop_cpu_softmax(const splitop_softmax* softmax,
                                   const splitop_executor* executor) {
  return splitop::run_call(softmax, executor);
}

splitop_status splitop_cpu_softmax_gradient(const splitop_softmax_gradient* gradient,
                                            const splitop_executor* executor) {
  return splitop::run_call(gradient, executor);
}
