// Starts kernels; the only place that does.
#ifndef SPLITOP_KERNELS_CUDA_LAUNCH_H_
#define SPLITOP_KERNELS_CUDA_LAUNCH_H_

#include <cuda_runtime.h>
#include <stddef.h>

#include "kernels/cuda/failure.h"
#include "kernels/cuda/load.h"
#include "kernels/cuda/queue.h"

#ifdef SPLITOP_CUDA_EMULATION
#include "emulated_launch.h"
#else

namespace splitop {

template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, const Arguments&... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace splitop

#endif  // SPLITOP_CUDA_EMULATION

namespace splitop::cuda {

// shared_bytes: the same for every launch of the kernel.
template <typename... Parameters, typename... Arguments>
splitop_status enqueue(const Queue& queue, const char* name, void (*kernel)(Parameters...),
                       dim3 grid, dim3 block, size_t shared_bytes, const Arguments&... arguments) {
  if (queue.loads_only) {
    return load({name, reinterpret_cast<const void*>(kernel), shared_bytes});
  }
  const cudaError_t error = launch(kernel, grid, block, shared_bytes, queue.stream, arguments...);
  return error == cudaSuccess ? SPLITOP_OK : cuda_failed("launching", name, error);
}

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_LAUNCH_H_
