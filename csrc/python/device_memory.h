// What counts as the device's memory, and its names.
//
// In a build that emulates CUDA on the CPU (for tests) it is the host's.
#ifndef SPLITOP_PYTHON_DEVICE_MEMORY_H_
#define SPLITOP_PYTHON_DEVICE_MEMORY_H_

#include <cstdint>
#include <string>

#include "python/dlpack.h"

namespace splitop {

#ifdef SPLITOP_CUDA_EMULATION
constexpr bool kDeviceMemoryIsHostMemory = true;
constexpr const char* kDeviceMemory = "host memory";
#else
constexpr bool kDeviceMemoryIsHostMemory = false;
constexpr const char* kDeviceMemory = "a CUDA device's memory";
#endif

inline bool is_device_memory(int32_t dlpack_type) {
  if (kDeviceMemoryIsHostMemory) return dlpack_type == dlpack::kCpu;
  return dlpack_type == dlpack::kCuda || dlpack_type == dlpack::kCudaManaged;
}

inline std::string device_name(int32_t dlpack_type, int32_t id) {
  switch (dlpack_type) {
    case dlpack::kCpu:
      return "cpu";
    case dlpack::kCuda:
    case dlpack::kCudaManaged:
      return "cuda:" + std::to_string(id);
    default:
      return "DLPack device type " + std::to_string(dlpack_type);
  }
}

}  // namespace splitop

#endif  // SPLITOP_PYTHON_DEVICE_MEMORY_H_
