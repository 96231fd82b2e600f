// The gradient of max pooling of images.
//
// y(n, i, j, c) is the largest of x(n, s i + k - p, s j + l - p, c) over the window's k and l
// inside of the image. Its gradient goes to that one, of several the first in the order of rows and
// columns. A NaN is larger than nothing, and nothing is larger than a NaN that comes first.
//
// Where x is act(z), the gradient of z is made at once.
#ifndef SPLITOP_MAX_POOL_H_
#define SPLITOP_MAX_POOL_H_

#include <stdint.h>

#include "splitop/activation.h"
#include "splitop/convolution.h"
#include "splitop/dtype.h"
#include "splitop/executor.h"
#include "splitop/export.h"
#include "splitop/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct splitop_max_pool_gradient {
  splitop_dtype dtype;            // [in] of all; SPLITOP_FLOAT32 or SPLITOP_FLOAT64
  int64_t batch, channels;        // [in] at least 0 and 1
  splitop_window rows, columns;   // [in] not dilated; each window has a part of the image
  const void* x;                  // [in] [batch, rows.input, columns.input, channels]
  splitop_activation activation;  // [in] act: SPLITOP_LINEAR or SPLITOP_RELU
  const void* dy;                 // [in] [batch, rows.output, columns.output, channels]
  void* dz;                       // [out] of the shape of x; must not overlap any input
} splitop_max_pool_gradient;

// The gradients that meet are added in the order of the windows. SPLITOP_UNSUPPORTED for more than
// 2^31 - 1 elements of a window.
SPLITOP_API splitop_status splitop_cpu_max_pool_gradient(const splitop_max_pool_gradient* gradient,
                                                         const splitop_executor* executor);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_MAX_POOL_H_
