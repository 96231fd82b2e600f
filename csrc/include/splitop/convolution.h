// A convolution of images with a filter, and its gradients.
//
// With x(n, i, j, c) = 0 outside of the image, which may be left out of a sum (so 0 times an
// infinite W or G is nothing or NaN there), W the filter, and s, d, p the stride, the dilation
// and the padding before, of rows and of columns:
//   z(n, i, j, f) = sum over k, l, c of x(n, s i + d k - p, s j + d l - p, c) W(k, l, c, f)
//   y = act(z + b),
// which is the product of a matrix of windows, one row for each (n, i, j), by the filter as a
// matrix. Given G = dL/dz: dL/dW is that matrix, transposed, times G; dL/db the sum of G's rows;
// and dL/dx, where the strides are 1, the convolution of G with the filter turned by half a circle.
#ifndef SPLITOP_CONVOLUTION_H_
#define SPLITOP_CONVOLUTION_H_

#include <stddef.h>
#include <stdint.h>

#include "splitop/activation.h"
#include "splitop/dtype.h"
#include "splitop/executor.h"
#include "splitop/export.h"
#include "splitop/status.h"

#ifdef __cplusplus
extern "C" {
#endif

// The steps of the windows along the rows or the columns of an image.
typedef struct splitop_window {
  int64_t input;     // [in] rows of x, or columns; at least 0
  int64_t output;    // [in] of z; at least 0
  int64_t filter;    // [in] of the filter; at least 1
  int64_t stride;    // [in] at least 1
  int64_t dilation;  // [in] at least 1
  int64_t before;    // [in] padding; negative: what is left out of x
} splitop_window;

typedef struct splitop_image_shapes {
  splitop_dtype dtype;           // [in] of all; SPLITOP_FLOAT32 or SPLITOP_FLOAT64
  int64_t batch;                 // [in] images; at least 0
  int64_t channels;              // [in] of x; at least 1
  int64_t filters;               // [in] channels of z; at least 1
  splitop_window rows, columns;  // [in]
} splitop_image_shapes;

typedef struct splitop_convolution {
  splitop_image_shapes shapes;    // [in]
  const void* x;                  // [in] [batch, rows.input, columns.input, channels]
  const void* filter;             // [in] [rows.filter, columns.filter, channels, filters]
  const void* bias;               // [in] [filters]; NULL: none
  splitop_activation activation;  // [in]
  double alpha;                   // [in] slope of leaky_relu; else unused
  void* y;  // [out] [batch, rows.output, columns.output, filters]; must not overlap any input
} splitop_convolution;

// Of splitop_cpu_convolution, in bytes; 0 if the call is invalid.
SPLITOP_API size_t splitop_cpu_convolution_scratch_bytes(const splitop_convolution* convolution,
                                                         int32_t num_workers);

// scratch: of so many bytes at least, aligned to 64. The bits do not depend on the number of
// workers.
SPLITOP_API splitop_status splitop_cpu_convolution(const splitop_convolution* convolution,
                                                   void* scratch, size_t scratch_bytes,
                                                   const splitop_executor* executor);

typedef struct splitop_filter_gradient {
  splitop_image_shapes shapes;  // [in]
  const void* x;                // [in] [batch, rows.input, columns.input, channels]
  const void* dz;               // [in] G, [batch, rows.output, columns.output, filters]
  void* dfilter;                // [out] [rows.filter, columns.filter, channels, filters]
  void* dbias;                  // [out] [filters]; no result may overlap anything else
} splitop_filter_gradient;

// Of splitop_cpu_filter_gradient, likewise.
SPLITOP_API size_t splitop_cpu_filter_gradient_scratch_bytes(
    const splitop_filter_gradient* gradient, int32_t num_workers);

// scratch: likewise. The sums over the windows are made in blocks of them, whatever the number of
// workers.
SPLITOP_API splitop_status splitop_cpu_filter_gradient(const splitop_filter_gradient* gradient,
                                                       void* scratch, size_t scratch_bytes,
                                                       const splitop_executor* executor);

typedef struct splitop_image_gradient {
  splitop_image_shapes shapes;  // [in] strides of 1
  const void* filter;           // [in] [rows.filter, columns.filter, channels, filters]
  const void* dz;               // [in] G, [batch, rows.output, columns.output, filters]
  void* dx;                     // [out] [batch, rows.input, columns.input, channels]; likewise
} splitop_image_gradient;

// Of splitop_cpu_image_gradient, likewise.
SPLITOP_API size_t splitop_cpu_image_gradient_scratch_bytes(const splitop_image_gradient* gradient,
                                                            int32_t num_workers);

// SPLITOP_UNSUPPORTED for strides above 1.
SPLITOP_API splitop_status splitop_cpu_image_gradient(const splitop_image_gradient* gradient,
                                                      void* scratch, size_t scratch_bytes,
                                                      const splitop_executor* executor);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_CONVOLUTION_H_
