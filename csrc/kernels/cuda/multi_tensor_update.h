// Updates of many variables in few launches: those of the public function, and the biases of a
// chain, whose gradients are sums of several rows.
#ifndef SPLITOP_KERNELS_CUDA_MULTI_TENSOR_UPDATE_H_
#define SPLITOP_KERNELS_CUDA_MULTI_TENSOR_UPDATE_H_

#include <stdint.h>

#include <vector>

#include "kernels/cuda/queue.h"
#include "splitop/dtype.h"
#include "splitop/status.h"
#include "splitop/update_rule.h"

namespace splitop::cuda {

struct TensorUpdate {
  const void* gradient;  // [gradient_rows, count], the sum of whose rows is the gradient
  int32_t gradient_rows;
  splitop_variable variable;
  int64_t count;
};

// The longest list that each of the kernel's tables holds; the last one is of a whole launch.
constexpr int kUpdateTables[] = {32, 448};

// hyper: device memory.
splitop_status enqueue_updates(splitop_dtype gradient_dtype, splitop_dtype variable_dtype,
                               splitop_update_rule rule, const void* hyper,
                               const std::vector<TensorUpdate>& updates, const Queue& queue);

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_MULTI_TENSOR_UPDATE_H_
