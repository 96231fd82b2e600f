// What is known of the calling thread's current device, asked for once a device.
#ifndef SPLITOP_KERNELS_CUDA_CURRENT_DEVICE_H_
#define SPLITOP_KERNELS_CUDA_CURRENT_DEVICE_H_

#include "splitop/cuda.h"

namespace splitop::cuda {

// NULL if there is none.
const splitop_cuda_device* current_device();

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_CURRENT_DEVICE_H_
