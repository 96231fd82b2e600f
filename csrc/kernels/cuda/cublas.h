// The two products that cuBLAS is used for, through a library that is found when first needed.
#ifndef SPLITOP_KERNELS_CUDA_CUBLAS_H_
#define SPLITOP_KERNELS_CUDA_CUBLAS_H_

#include <stddef.h>
#include <stdint.h>

#include "kernels/cuda/queue.h"
#include "splitop/dtype.h"
#include "splitop/status.h"

namespace splitop::cuda {

// The workspace that cuBLAS is given, so that it allocates none.
constexpr size_t kCublasWorkspaceBytes = 32 << 20;

// Whether the library was found; creates nothing.
bool cublas_found();

// Creates the current device's handle if there is none yet.
splitop_status cublas_prepare();

enum class Factor { kAsIs, kTransposed };

// C = alpha * op(A) op(B) + beta * C, all row-major. C is [m, n], the sum runs over k.
struct CublasProduct {
  int64_t m, n, k;
  Factor op_a, op_b;
  const void* a;
  int64_t pitch_a;  // elements from row to row, of A as it lies in memory
  const void* b;
  int64_t pitch_b;
  void* c;
  int64_t pitch_c;
  splitop_dtype factor_dtype;
  splitop_dtype result_dtype;
  bool tf32;
  const void* alpha;  // device memory, float64 if the factors are, else float32
  const void* beta;
};

// Where kernels are only loaded, this is the same as cublas_prepare: cuBLAS offers no way to load
// the kernel that it will take.
splitop_status cublas_multiply(const CublasProduct& product, void* workspace, const Queue& queue);

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_CUBLAS_H_
