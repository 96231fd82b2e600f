// The squared norms of tensors on CPUs: blocks of all tensors are shared out among the workers.
#include <algorithm>

#include "kernels/checks.h"
#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/sum_of_squares.h"
#include "splitop/dense_sweep.h"

namespace splitop {
namespace {

Parts blocks_of(const splitop_squared_norms& norms) {
  Parts blocks;
  for (int32_t i = 0; i < norms.num_tensors; ++i) blocks.add(square_blocks(norms.counts[i]));
  return blocks;
}

template <typename T>
void run(const splitop_squared_norms& norms, const Parts& blocks, double* parts,
         const splitop_executor& executor) {
  const DenseChainKernels<T>& kernels = dense_chain_kernels<T>();
  const double flops = 4.0 * kSquaredElements * static_cast<double>(blocks.total());
  parallel_tasks(executor, executor.num_workers, blocks.total(), flops, [&](int64_t task, int32_t) {
    const auto [i, block] = blocks.at(task);
    parts[task] =
        block_squares(kernels, static_cast<const T*>(norms.tensors[i]), norms.counts[i], block);
  });
  std::fill_n(norms.squared_norms, norms.num_tensors, 0.0);
  for (int64_t task = 0; task < blocks.total(); ++task) {
    norms.squared_norms[blocks.at(task).first] += parts[task];
  }
}

}  // namespace
}  // namespace splitop

size_t splitop_cpu_squared_norms_scratch_bytes(const splitop_squared_norms* norms, int32_t) {
  return splitop::valid(norms) ? sizeof(double) * splitop::blocks_of(*norms).total() : 0;
}

splitop_status splitop_cpu_squared_norms(const splitop_squared_norms* norms, void* scratch,
                                         size_t scratch_bytes, const splitop_executor* executor) {
  if (!splitop::valid(norms) || !splitop::valid(executor)) return SPLITOP_INVALID_ARGUMENT;
  const splitop::Parts blocks = splitop::blocks_of(*norms);
  if (scratch_bytes < sizeof(double) * blocks.total() ||
      (scratch == nullptr && blocks.total() > 0)) {
    return SPLITOP_INVALID_ARGUMENT;
  }
  auto* const parts = static_cast<double*>(scratch);
  if (norms->dtype == SPLITOP_FLOAT32) {
    splitop::run<float>(*norms, blocks, parts, *executor);
  } else {
    splitop::run<double>(*norms, blocks, parts, *executor);
  }
  return SPLITOP_OK;
}
