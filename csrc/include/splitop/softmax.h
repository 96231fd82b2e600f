// Softmax of the rows of a matrix, and its gradient.
//
// Row by row: y = exp(x - max x) / sum over the row of exp(x - max x), and
// dL/dx = (dL/dy - sum over the row of (dL/dy y)) y.
#ifndef SPLITOP_SOFTMAX_H_
#define SPLITOP_SOFTMAX_H_

#include <stdint.h>

#include "splitop/dtype.h"
#include "splitop/executor.h"
#include "splitop/export.h"
#include "splitop/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct splitop_softmax {
  splitop_dtype dtype;  // [in] of both; SPLITOP_FLOAT32 or SPLITOP_FLOAT64
  int64_t rows, width;  // [in] at least 0
  const void* x;        // [in] [rows, width], row-major
  void* y;              // [out] likewise; may be x, or must not overlap it
} splitop_softmax;

typedef struct splitop_softmax_gradient {
  splitop_dtype dtype;  // [in] of all; SPLITOP_FLOAT32 or SPLITOP_FLOAT64
  int64_t rows, width;  // [in] at least 0
  const void* dy;       // [in] dL/dy, [rows, width], row-major
  const void* y;        // [in] likewise
  void* dx;             // [out] likewise; may be dy, or must not overlap it; must not overlap y
} splitop_softmax_gradient;

// The bits of both do not depend on the number of workers.
SPLITOP_API splitop_status splitop_cpu_softmax(const splitop_softmax* softmax,
                                               const splitop_executor* executor);
SPLITOP_API splitop_status splitop_cpu_softmax_gradient(const splitop_softmax_gradient* gradient,
                                                        const splitop_executor* executor);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_SOFTMAX_H_
