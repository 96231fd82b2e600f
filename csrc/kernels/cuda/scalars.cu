#include "kernels/cuda/scalars.h"

#include "kernels/cuda/launch.h"

namespace splitop::cuda {
namespace {

template <typename T>
__global__ void scalars_kernel(const T* hyper, T* scalars) {
  scalars[kZero] = T(0);
  scalars[kOne] = T(1);
  scalars[kMinusLr] = -hyper[1];
  scalars[kOneMinusDecay] = T(1) - hyper[0];
}

template <typename T>
splitop_status enqueue_scalars(const void* hyper, void* scalars, const Queue& queue) {
  return enqueue(queue, "scalars_kernel", scalars_kernel<T>, dim3(1), dim3(1), 0,
                 static_cast<const T*>(hyper), static_cast<T*>(scalars));
}

}  // namespace

splitop_status enqueue_scalars(splitop_dtype dtype, const void* hyper, void* scalars,
                               const Queue& queue) {
  return dtype == SPLITOP_FLOAT64 ? enqueue_scalars<double>(hyper, scalars, queue)
                                  : enqueue_scalars<float>(hyper, scalars, queue);
}

}  // namespace splitop::cuda
