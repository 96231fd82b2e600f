// What has failed last in this thread, in words: splitop_cuda_failure.
#ifndef SPLITOP_KERNELS_CUDA_FAILURE_H_
#define SPLITOP_KERNELS_CUDA_FAILURE_H_

#include <cuda_runtime_api.h>

#include "splitop/status.h"

namespace splitop::cuda {

// Remembers what was done, and to which kernel. The error is taken away from whoever asks CUDA for
// the last one.
splitop_status cuda_failed(const char* doing, const char* kernel, cudaError_t error);

splitop_status cublas_failed(const char* doing, int cublas_status);

// Adds what follows from the failure, if the status is one. Returns the status.
splitop_status with_remark(splitop_status status, const char* remark);

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_FAILURE_H_
