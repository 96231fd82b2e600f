// Blocks of the rows of a matrix, shared out among the workers.
#ifndef SPLITOP_KERNELS_CPU_ROW_BLOCKS_H_
#define SPLITOP_KERNELS_CPU_ROW_BLOCKS_H_

#include <stdint.h>

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace splitop {

constexpr int64_t kElementsOfBlock = 1 << 14;  // about
constexpr int64_t kMostBlocks = 256;           // each may have sums over its rows

inline int64_t rows_of_block(int64_t rows, int64_t width) {
  const int64_t fitting = std::max<int64_t>(kElementsOfBlock / width, 1);
  return std::max(fitting, ceil_div(rows, kMostBlocks));
}

// Runs body(block, begin, end) for blocks of rows; flops: of an element.
template <typename Body>
void parallel_rows(const splitop_executor& executor, int64_t rows, int64_t width, double flops,
                   const Body& body) {
  const int64_t block = rows_of_block(rows, width);
  flops *= static_cast<double>(rows) * static_cast<double>(width);
  parallel_tasks(
      executor, executor.num_workers, ceil_div(rows, block), flops,
      [&](int64_t task, int32_t) { body(task, task * block, std::min((task + 1) * block, rows)); });
}

}  // namespace splitop

#endif  // SPLITOP_KERNELS_CPU_ROW_BLOCKS_H_
