#include "kernels/cuda/load.h"

#include <cuda_runtime_api.h>

#include <mutex>
#include <set>
#include <utility>

#include "kernels/cuda/failure.h"

namespace splitop::cuda {
namespace {

// More dynamic shared memory than this has to be asked for.
constexpr size_t kSharedWithoutAsking = 48 * 1024;

cudaError_t load_into_device(const LoadableKernel& kernel) {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel.address);
  if (error != cudaSuccess || kernel.shared_bytes <= kSharedWithoutAsking) return error;
  return cudaFuncSetAttribute(kernel.address, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(kernel.shared_bytes));
}

}  // namespace

splitop_status load(const LoadableKernel& kernel) {
  static std::mutex mutex;
  static auto& loaded = *new std::set<std::pair<int, const void*>>;  // by device; never unloaded
  int device;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    const std::lock_guard<std::mutex> lock(mutex);
    const std::pair<int, const void*> key(device, kernel.address);
    if (loaded.count(key) != 0) return SPLITOP_OK;
    error = load_into_device(kernel);
    if (error == cudaSuccess) loaded.insert(key);
  }
  return error == cudaSuccess ? SPLITOP_OK : cuda_failed("loading", kernel.name, error);
}

}  // namespace splitop::cuda
