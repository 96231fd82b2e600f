// The gradient of max pooling on CPUs, and of relu before it: the images are shared out among the
// workers.
#include "splitop/max_pool.h"

#include "kernels/checks.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/parallel.h"

namespace splitop {
namespace {

constexpr double kFlopsPerInput = 10;

template <typename T>
void run(const splitop_max_pool_gradient& gradient, const splitop_executor& executor) {
  const DenseChainKernels<T>& kernels = dense_chain_kernels<T>();
  const PoolJob<T> job{gradient.channels,
                       gradient.rows,
                       gradient.columns,
                       static_cast<const T*>(gradient.x),
                       gradient.activation == SPLITOP_RELU,
                       static_cast<const T*>(gradient.dy),
                       static_cast<T*>(gradient.dz)};
  const double elements =
      static_cast<double>(gradient.batch) * static_cast<double>(gradient.channels) *
      static_cast<double>(gradient.rows.input) * static_cast<double>(gradient.columns.input);
  parallel_tasks(executor, executor.num_workers, gradient.batch, kFlopsPerInput * elements,
                 [&](int64_t image, int32_t) { kernels.pooled_image(job, image); });
}

bool has_too_many(const splitop_max_pool_gradient& gradient) {
  return gradient.rows.filter > INT32_MAX / gradient.columns.filter;
}

}  // namespace
}  // namespace splitop

splitop_status splitop_cpu_max_pool_gradient(const splitop_max_pool_gradient* gradient,
                                             const splitop_executor* executor) {
  if (!splitop::valid(gradient) || !splitop::valid(executor)) return SPLITOP_INVALID_ARGUMENT;
  if (splitop::has_too_many(*gradient)) return SPLITOP_UNSUPPORTED;
  if (gradient->dtype == SPLITOP_FLOAT32) {
    splitop::run<float>(*gradient, *executor);
  } else {
    splitop::run<double>(*gradient, *executor);
  }
  return SPLITOP_OK;
}
