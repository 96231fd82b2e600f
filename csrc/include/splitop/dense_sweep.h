// The seeded backward pass of a chain of dense layers without its update: what has to be known of
// all gradients before any variable may be written.
//
// G_l and dL/dx are those of dense_chain.h. With G_l as the seed and without an activation, each
// layer is then a chain of its own, which updates the layer's variables. In mixed precision each
// G_l is rounded to 16 bits, and what follows from it, the norms too, is that of the rounded one.
#ifndef SPLITOP_DENSE_SWEEP_H_
#define SPLITOP_DENSE_SWEEP_H_

#include <stddef.h>
#include <stdint.h>

#include "splitop/dense_chain.h"
#include "splitop/dtype.h"
#include "splitop/executor.h"
#include "splitop/export.h"
#include "splitop/status.h"

#ifdef __cplusplus
extern "C" {
#endif

// What is worked out of the gradients of the variables.
typedef enum splitop_norms {
  SPLITOP_NORMS_NONE = 0,
  // Upper bounds of the squared norms, finite only if all elements of the gradients are.
  SPLITOP_NORMS_BOUNDS = 1,
  // The squared norms. ||x^T G||^2 is <x x^T, G G^T>, or comes from the product, whichever is
  // cheaper; a product that cancels is made again in double. Finite only if all elements are.
  // (Squares of float64 elements overflow above 1e154.)
  SPLITOP_NORMS_EXACT = 2,
  SPLITOP_NUM_NORMS = 3
} splitop_norms;

// "none", "bounds", "exact"; NULL for an unknown one.
SPLITOP_API const char* splitop_norms_name(splitop_norms norms);

typedef struct splitop_dense_sweep {
  splitop_dtype dtype;                // [in] of all tensors; that of kernels goes with it
  int64_t batch;                      // [in] rows, at least 1
  int32_t num_layers;                 // [in] at least 1
  const splitop_dense_layer* layers;  // [in] from the top down; of a variable only the value of a
                                      //      kernel is read, in mixed precision none
  const void* seed;        // [in] dL/dy of the top layer, [batch, layers[0].outputs], row-major
  void* const* gradients;  // [out] [num_layers]: G of each layer, [batch, outputs], row-major
  void* input_gradient;    // [out] dL/dx of the bottom layer, [batch, inputs]; may be NULL
  splitop_norms norms;     // [in]
  double* squared_norms;   // [out] [2, num_layers]: of dL/dW, then of the sums of G over the batch;
                           //       may be NULL without norms
  void* const* kernel_gradients;  // [out] [num_layers]: dL/dW, [inputs, outputs], row-major, of the
                                  //       kernels' type; NULL where it is not to be kept; with
                                  //       exact norms only; may be NULL as a whole
} splitop_dense_sweep;

// Whether the exact norm of a layer's dL/dW comes from the product, so that to keep dL/dW saves its
// update another one, and dL/dW takes no more memory than the layer's x and G. dtype: theirs.
SPLITOP_API int32_t splitop_keeps_kernel_gradient(splitop_dtype dtype, int64_t batch,
                                                  int64_t inputs, int64_t outputs);

// Scratch that splitop_cpu_dense_sweep needs, in bytes; 0 if the sweep is invalid.
SPLITOP_API size_t splitop_cpu_dense_sweep_scratch_bytes(const splitop_dense_sweep* sweep,
                                                         int32_t num_workers);

// Runs the sweep; scratch, alignment and determinism are as for splitop_cpu_dense_chain.
SPLITOP_API splitop_status splitop_cpu_dense_sweep(const splitop_dense_sweep* sweep, void* scratch,
                                                   size_t scratch_bytes,
                                                   const splitop_executor* executor);

// The sums of the squares of some tensors.
typedef struct splitop_squared_norms {
  splitop_dtype dtype;         // [in] float32 or float64
  int32_t num_tensors;         // [in] at least 0
  const int64_t* counts;       // [in] elements of each tensor, at least 0
  const void* const* tensors;  // [in]
  double* squared_norms;       // [out] one a tensor
} splitop_squared_norms;

// Scratch that splitop_cpu_squared_norms needs, in bytes; 0 if it needs none, and if the arguments
// are invalid.
SPLITOP_API size_t splitop_cpu_squared_norms_scratch_bytes(const splitop_squared_norms* norms,
                                                           int32_t num_workers);

// Scratch and determinism are as for splitop_cpu_dense_chain.
SPLITOP_API splitop_status splitop_cpu_squared_norms(const splitop_squared_norms* norms,
                                                     void* scratch, size_t scratch_bytes,
                                                     const splitop_executor* executor);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_DENSE_SWEEP_H_
