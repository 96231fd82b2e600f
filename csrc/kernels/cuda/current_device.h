// What is known of the calling thread's current device.
#ifndef SPLITOP_KERNELS_CUDA_CURRENT_DEVICE_H_
#define SPLITOP_KERNELS_CUDA_CURRENT_DEVICE_H_

#include "splitop/cuda.h"

namespace splitop::cuda {

// False if there is none that the kernels can run on.
bool current_device(splitop_cuda_device* info);

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_CURRENT_DEVICE_H_
