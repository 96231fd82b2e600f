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
cudaError_t launch_scalars(const void* hyper, void* scalars, cudaStream_t stream) {
  return launch(scalars_kernel<T>, dim3(1), dim3(1), 0, stream, static_cast<const T*>(hyper),
                static_cast<T*>(scalars));
}

}  // namespace

cudaError_t enqueue_scalars(splitop_dtype dtype, const void* hyper, void* scalars,
                            cudaStream_t stream) {
  return dtype == SPLITOP_FLOAT64 ? launch_scalars<double>(hyper, scalars, stream)
                                  : launch_scalars<float>(hyper, scalars, stream);
}

}  // namespace splitop::cuda
