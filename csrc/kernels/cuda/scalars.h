// The factors alpha and beta of cuBLAS' products, worked out on the device from the
// hyperparameters there.
#ifndef SPLITOP_KERNELS_CUDA_SCALARS_H_
#define SPLITOP_KERNELS_CUDA_SCALARS_H_

#include "kernels/cuda/queue.h"
#include "splitop/dtype.h"
#include "splitop/status.h"

namespace splitop::cuda {

// Places in the array.
enum Scalar {
  kZero = 0,
  kOne = 1,
  kMinusLr = 2,        // of sgd
  kOneMinusDecay = 3,  // of any rule
  kNumScalars = 4
};

// dtype: of hyper and of the scalars, float32 or float64.
splitop_status enqueue_scalars(splitop_dtype dtype, const void* hyper, void* scalars,
                               const Queue& queue);

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_SCALARS_H_
