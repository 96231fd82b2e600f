// Layer normalization on CPUs: blocks of rows are shared out among the workers.
#include "splitop/layer_norm.h"

#include <algorithm>

#include "kernels/checks.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/row_blocks.h"

namespace splitop {
namespace {

constexpr double kFlopsOfNorm = 10;  // of an element, in arithmetic
constexpr double kFlopsOfGradient = 20;

template <typename T>
void run(const splitop_layer_norm& norm, const splitop_executor& executor) {
  const DenseChainKernels<T>& kernels = dense_chain_kernels<T>();
  const NormJob<T> job{norm.width,
                       static_cast<T>(norm.epsilon),
                       static_cast<const T*>(norm.x),
                       static_cast<const T*>(norm.gamma),
                       static_cast<const T*>(norm.beta),
                       static_cast<T*>(norm.y)};
  parallel_rows(executor, norm.rows, norm.width, kFlopsOfNorm,
                [&](int64_t, int64_t begin, int64_t end) { kernels.norm_rows(job, begin, end); });
}

int64_t blocks(const splitop_layer_norm_gradient& gradient) {
  return ceil_div(gradient.rows, rows_of_block(gradient.rows, gradient.width));
}

template <typename T>
void run(const splitop_layer_norm_gradient& gradient, T* sums, const splitop_executor& executor) {
  const DenseChainKernels<T>& kernels = dense_chain_kernels<T>();
  const int64_t width = gradient.width;
  const NormGradientJob<T> job{width,
                               static_cast<T>(gradient.epsilon),
                               static_cast<const T*>(gradient.dy),
                               static_cast<const T*>(gradient.x),
                               static_cast<const T*>(gradient.gamma),
                               static_cast<T*>(gradient.dx)};
  parallel_rows(executor, gradient.rows, width, kFlopsOfGradient,
                [&](int64_t block, int64_t begin, int64_t end) {
                  T* const dgamma = sums + 2 * block * width;
                  kernels.norm_gradient_rows(job, begin, end, dgamma, dgamma + width);
                });
  auto* const dgamma = static_cast<T*>(gradient.dgamma);
  auto* const dbeta = static_cast<T*>(gradient.dbeta);
  std::fill_n(dgamma, width, T(0));
  std::fill_n(dbeta, width, T(0));
  for (int64_t block = 0; block < blocks(gradient); ++block) {
    const T* const part = sums + 2 * block * width;
    for (int64_t j = 0; j < width; ++j) {
      dgamma[j] += part[j];
      dbeta[j] += part[width + j];
    }
  }
}

}  // namespace
}  // namespace splitop

splitop_status splitop_cpu_layer_norm(const splitop_layer_norm* norm,
                                      const splitop_executor* executor) {
  if (!splitop::valid(norm) || !splitop::valid(executor)) return SPLITOP_INVALID_ARGUMENT;
  if (norm->dtype == SPLITOP_FLOAT32) {
    splitop::run<float>(*norm, *executor);
  } else {
    splitop::run<double>(*norm, *executor);
  }
  return SPLITOP_OK;
}

size_t splitop_cpu_layer_norm_gradient_scratch_bytes(const splitop_layer_norm_gradient* gradient,
                                                     int32_t num_workers) {
  if (!splitop::valid(gradient) || num_workers < 1) return 0;
  return 2 * splitop_dtype_bytes(gradient->dtype) * gradient->width * splitop::blocks(*gradient);
}

splitop_status splitop_cpu_layer_norm_gradient(const splitop_layer_norm_gradient* gradient,
                                               void* scratch, size_t scratch_bytes,
                                               const splitop_executor* executor) {
  if (!splitop::valid(gradient) || !splitop::valid(executor)) return SPLITOP_INVALID_ARGUMENT;
  const size_t needed =
      splitop_cpu_layer_norm_gradient_scratch_bytes(gradient, executor->num_workers);
  if (scratch_bytes < needed || (scratch == nullptr && needed > 0)) return SPLITOP_INVALID_ARGUMENT;
  if (gradient->dtype == SPLITOP_FLOAT32) {
    splitop::run(*gradient, static_cast<float*>(scratch), *executor);
  } else {
    splitop::run(*gradient, static_cast<double*>(scratch), *executor);
  }
  return SPLITOP_OK;
}
