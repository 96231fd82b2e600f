// The seeded backward pass and the optimizer update of a chain of dense layers.
//
// Layer l, counted from the top (next to the intermediate vector) down, computes
//   z_l = x_l W_l + b_l,  y_l = act_l(z_l),  and  y_(l+1) = x_l.
// Given the seed dL/dy_0, for l = 0, 1, ...:
//   G_l    = act_l'(...) * dL/dy_l          [batch, outputs]
//   dL/db_l = sum over the batch of G_l     then b_l is updated
//   dL/dx_l = G_l W_l^T                     with W_l from before its update
//   dL/dW_l = x_l^T G_l                     a block at a time, each consumed by W_l's update
// The gradients of the weights never exist as whole tensors, unless the caller has one.
//
// Variables, slots and hyperparameters have one type, float32 or float64. All other tensors have
// the same type, or bfloat16 or float16 with float32 variables (mixed precision): all sums are then
// float32. CPUs round nothing but dL/dx of the bottom layer to 16 bits, CUDA devices also what they
// keep of each G and dL/dx.
#ifndef SPLITOP_DENSE_CHAIN_H_
#define SPLITOP_DENSE_CHAIN_H_

#include <stddef.h>
#include <stdint.h>

#include "splitop/activation.h"
#include "splitop/cuda.h"
#include "splitop/dtype.h"
#include "splitop/executor.h"
#include "splitop/export.h"
#include "splitop/status.h"
#include "splitop/update_rule.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct splitop_dense_layer {
  int64_t inputs;         // [in] columns of x
  int64_t outputs;        // [in] columns of y
  const void* x;          // [in] [batch, inputs], row-major; see `forward` below
  const void* reference;  // [in] [batch, outputs], row-major; what the activation's gradient
                          //      reads (activation.h); NULL where it is linear
  splitop_activation activation;  // [in]
  double alpha;                   // [in] slope of leaky_relu; else unused
  splitop_variable kernel;        // [in,out] [inputs, outputs]
  const void* kernel_copy;        // [in] mixed precision: the kernel in the tensors' type, as the
                                  //      forward pass has read it; read for dL/dx; else unused
  splitop_variable bias;          // [in,out] [outputs]; value NULL: the layer has none
  const void* kernel_gradient;    // [in] dL/dW where it has been kept (dense_sweep.h), [inputs,
                                  //      outputs], row-major, of the kernel's type; NULL: it is
                                  //      worked out; CPU only
} splitop_dense_layer;

typedef struct splitop_dense_chain {
  splitop_dtype dtype;                // [in] of seed, x, references and dL/dx
  splitop_dtype variable_dtype;       // [in] of variables, slots and hyper
  int64_t batch;                      // [in] rows, at least 1
  int32_t num_layers;                 // [in] at least 1
  const splitop_dense_layer* layers;  // [in] from the top down
  int32_t
      forward;  // [in] 1: the forward pass is run first, from the bottom layer's x, and gives the
                //      x of all other layers and all references, which are not read; CPU only,
                //      not in mixed precision. 0: they are given.
  const void* seed;          // [in] dL/dy of the top layer, [batch, layers[0].outputs], row-major
  splitop_update_rule rule;  // [in]
  const void* hyper;  // [in] splitop_num_hyper(rule) scalars; CPU: host memory, CUDA: the device's
  void* input_gradient;  // [out] dL/dx of the bottom layer, [batch, inputs], row-major; may be NULL
} splitop_dense_chain;

// Scratch that splitop_cpu_dense_chain needs, in bytes; 0 if the chain is invalid.
SPLITOP_API size_t splitop_cpu_dense_chain_scratch_bytes(const splitop_dense_chain* chain,
                                                         int32_t num_workers);

// Runs the chain. scratch: 64-byte aligned; scratch_bytes: at least the size above, for the
// executor's number of workers. All arguments are checked before anything is written. Every tensor
// may be unaligned. Variables and input_gradient must not overlap each other or any input. The
// result is the same, bit for bit, for any executor.
// SPLITOP_UNSUPPORTED for row-wise rules, and for `forward` in mixed precision.
SPLITOP_API splitop_status splitop_cpu_dense_chain(const splitop_dense_chain* chain, void* scratch,
                                                   size_t scratch_bytes,
                                                   const splitop_executor* executor);

// Scratch that splitop_cuda_dense_chain needs on the current device, in bytes; 0 if the chain or
// the options are invalid or not supported.
SPLITOP_API size_t splitop_cuda_dense_chain_scratch_bytes(const splitop_dense_chain* chain,
                                                          const splitop_cuda_options* options);

// Enqueues the chain on the stream (cuda.h). scratch: the device's memory, 256-byte aligned. All
// arguments are checked before anything is enqueued. The result is the same, bit for bit, from run
// to run on one kind of device. SPLITOP_UNSUPPORTED for other rules than sgd, momentum and adam,
// for gradients that are clipped or kept, and for `forward`.
SPLITOP_API splitop_status splitop_cuda_dense_chain(const splitop_dense_chain* chain, void* scratch,
                                                    size_t scratch_bytes,
                                                    const splitop_cuda_options* options,
                                                    splitop_cuda_stream stream);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_DENSE_CHAIN_H_
