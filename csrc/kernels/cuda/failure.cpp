#include "kernels/cuda/failure.h"

#include <stdio.h>
#include <string.h>

#include "splitop/cuda.h"

namespace splitop::cuda {
namespace {

thread_local char failure[512];

}  // namespace

splitop_status cuda_failed(const char* doing, const char* kernel, cudaError_t error) {
  (void)cudaGetLastError();
  snprintf(failure, sizeof(failure), "%s %s: %s (%s)", doing, kernel, cudaGetErrorName(error),
           cudaGetErrorString(error));
  return SPLITOP_DEVICE_ERROR;
}

splitop_status cublas_failed(const char* doing, int cublas_status) {
  snprintf(failure, sizeof(failure), "%s: cuBLAS' status %d", doing, cublas_status);
  return SPLITOP_DEVICE_ERROR;
}

splitop_status with_remark(splitop_status status, const char* remark) {
  if (status == SPLITOP_DEVICE_ERROR) {
    const size_t length = strlen(failure);
    snprintf(failure + length, sizeof(failure) - length, "; %s", remark);
  }
  return status;
}

}  // namespace splitop::cuda

const char* splitop_cuda_failure(void) { return splitop::cuda::failure; }
