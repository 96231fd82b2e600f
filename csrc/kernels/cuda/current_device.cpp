#include "kernels/cuda/current_device.h"

#include <cuda_runtime_api.h>

namespace splitop::cuda {
namespace {

constexpr int kOldestCapability = 80;

}  // namespace

bool current_device(splitop_cuda_device* info) {
  int device;
  return cudaGetDevice(&device) == cudaSuccess &&
         splitop_cuda_get_device(device, info) == SPLITOP_OK &&
         info->compute_capability >= kOldestCapability;
}

}  // namespace splitop::cuda
