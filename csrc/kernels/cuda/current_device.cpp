#include "kernels/cuda/current_device.h"

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>

namespace splitop::cuda {

const splitop_cuda_device* current_device() {
  static std::mutex mutex;
  static auto& known = *new std::map<int, splitop_cuda_device>();
  int device;
  if (cudaGetDevice(&device) != cudaSuccess) return nullptr;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find(device);
  if (found != known.end()) return &found->second;
  splitop_cuda_device info;
  if (splitop_cuda_get_device(device, &info) != SPLITOP_OK) return nullptr;
  return &(known[device] = info);
}

}  // namespace splitop::cuda
