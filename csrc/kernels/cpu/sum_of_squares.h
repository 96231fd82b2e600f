// The sum of the squares of a tensor, by all workers, in an order that no executor changes.
#ifndef SPLITOP_KERNELS_CPU_SUM_OF_SQUARES_H_
#define SPLITOP_KERNELS_CPU_SUM_OF_SQUARES_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/dense_chain_kernels.h"
#include "kernels/cpu/parallel.h"

namespace splitop {

constexpr int64_t kSquaredElements = 1 << 14;  // a task

inline int64_t square_blocks(int64_t count) { return ceil_div(count, kSquaredElements); }

// The sum of block `block` of a tensor of `count` elements.
template <typename E>
double block_squares(const DenseChainKernels<E>& kernels, const E* values, int64_t count,
                     int64_t block) {
  const int64_t first = block * kSquaredElements;
  return kernels.sum_squares(values + first, std::min(kSquaredElements, count - first));
}

// parts: [square_blocks(count)], for the sums of the blocks.
template <typename E>
double sum_of_squares(const DenseChainKernels<E>& kernels, const splitop_executor& executor,
                      const E* values, int64_t count, double* parts) {
  const int64_t blocks = square_blocks(count);
  parallel_tasks(
      executor, executor.num_workers, blocks, 4.0 * static_cast<double>(count),
      [&](int64_t block, int32_t) { parts[block] = block_squares(kernels, values, count, block); });
  double sum = 0;
  for (int64_t block = 0; block < blocks; ++block) sum += parts[block];
  return sum;
}

}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_SUM_OF_SQUARES_H_
