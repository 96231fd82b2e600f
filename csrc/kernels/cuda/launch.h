// Starts kernels; the only place that does.
#ifndef SPLITOP_KERNELS_CUDA_LAUNCH_H_
#define SPLITOP_KERNELS_CUDA_LAUNCH_H_

#include <cuda_runtime.h>
#include <stddef.h>

#ifdef SPLITOP_CUDA_EMULATION
#include "emulated_launch.h"
#else

namespace splitop {

// More dynamic shared memory than this has to be asked for.
constexpr size_t kSharedWithoutAsking = 48 * 1024;

template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, const Arguments&... arguments) {
  if (shared_bytes > kSharedWithoutAsking) {
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace splitop

#endif  // SPLITOP_CUDA_EMULATION

#endif  // SPLITOP_KERNELS_CUDA_LAUNCH_H_
