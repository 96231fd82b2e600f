// Layer normalization of the rows of a matrix, and its gradient.
//
//   y = (x - mean(x)) / sqrt(var(x) + epsilon) * gamma + beta,
// mean and variance of each row. With h the normalized row, g = dL/dy * gamma:
//   dL/dx = (g - mean(g) - h mean(g h)) / sqrt(var(x) + epsilon),
//   dL/dgamma = sum over the rows of dL/dy h,  dL/dbeta = sum over the rows of dL/dy.
// (Ba, Kiros, Hinton, Layer Normalization, 2016.)
#ifndef SPLITOP_LAYER_NORM_H_
#define SPLITOP_LAYER_NORM_H_

#include <stddef.h>
#include <stdint.h>

#include "splitop/dtype.h"
#include "splitop/executor.h"
#include "splitop/export.h"
#include "splitop/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct splitop_layer_norm {
  splitop_dtype dtype;       // [in] of all; SPLITOP_FLOAT32 or SPLITOP_FLOAT64
  int64_t rows, width;       // [in] at least 0 and 1
  double epsilon;            // [in]
  const void* x;             // [in] [rows, width], row-major
  const void *gamma, *beta;  // [in] [width]
  void* y;                   // [out] [rows, width]; must not overlap any input
} splitop_layer_norm;

// Normalizes the rows.
SPLITOP_API splitop_status splitop_cpu_layer_norm(const splitop_layer_norm* norm,
                                                  const splitop_executor* executor);

typedef struct splitop_layer_norm_gradient {
  splitop_dtype dtype;   // [in] of all; SPLITOP_FLOAT32 or SPLITOP_FLOAT64
  int64_t rows, width;   // [in] at least 0 and 1
  double epsilon;        // [in]
  const void* dy;        // [in] dL/dy, [rows, width], row-major
  const void* x;         // [in] [rows, width]
  const void* gamma;     // [in] [width]
  void* dx;              // [out] [rows, width]; no result may overlap anything else
  void *dgamma, *dbeta;  // [out] [width]
} splitop_layer_norm_gradient;

// 0 if the call is invalid.
SPLITOP_API size_t splitop_cpu_layer_norm_gradient_scratch_bytes(
    const splitop_layer_norm_gradient* gradient, int32_t num_workers);

// scratch: of so many bytes at least, aligned to 64. The sums over the rows are made in blocks of
// rows: the bits do not depend on the number of workers.
SPLITOP_API splitop_status
splitop_cpu_layer_norm_gradient(const splitop_layer_norm_gradient* gradient, void* scratch,
                                size_t scratch_bytes, const splitop_executor* executor);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_LAYER_NORM_H_
