// Kernels in the device's memory: CUDA loads one when it is first used, which may fail.
#ifndef SPLITOP_KERNELS_CUDA_LOAD_H_
#define SPLITOP_KERNELS_CUDA_LOAD_H_

#include <stddef.h>

#include "splitop/status.h"

namespace splitop::cuda {

struct LoadableKernel {
  const char* name;     // for messages
  const void* address;  // the function's
  size_t shared_bytes;  // the dynamic shared memory that every launch asks for
};

// Loads the kernel for the current device, once.
splitop_status load(const LoadableKernel& kernel);

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_LOAD_H_
