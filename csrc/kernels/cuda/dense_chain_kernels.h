// What the device code of the dense chain offers to the host code: one table for each kind of
// product. Everything is enqueued on the stream.
#ifndef SPLITOP_KERNELS_CUDA_DENSE_CHAIN_KERNELS_H_
#define SPLITOP_KERNELS_CUDA_DENSE_CHAIN_KERNELS_H_

#include <stdint.h>

#include "kernels/cuda/queue.h"
#include "splitop/activation.h"
#include "splitop/status.h"
#include "splitop/update_rule.h"

namespace splitop::cuda {

// "T" is the type of the tensors, "sums" are float64 if T is, else float32.

// G = act'(reference) * dL/dy, and the sums of G over parts of the batch.
struct GradientArgs {
  int64_t batch;
  int64_t cols;
  const void* source;   // dL/dy: `splits` matrices [batch, cols] to be added
  bool source_of_sums;  // the source is of the type of sums, else of type T
  int splits;           // 1 if the source is of type T
  splitop_activation activation;
  double alpha;
  const void* reference;  // [batch, cols] of T; unused where linear
  void* gradient;         // [batch, cols] of T; NULL: not wanted
  void* sums;             // [ceil(batch / rows_per_block), cols] of sums; NULL: not wanted
  int64_t rows_per_block;
  bool aligned;  // every row of every tensor starts at a multiple of 16 bytes
};

// dL/dx = G W^T. Split s sums over the outputs [s * split_depth, (s + 1) * split_depth).
struct ProductArgs {
  int64_t batch;
  int64_t inputs;
  int64_t outputs;
  const void* gradient;  // [batch, outputs] of T
  const void* kernel;    // [inputs, outputs] of T
  void* result;          // [splits, batch, inputs] of sums
  int splits;
  int64_t split_depth;
  bool large_tile;
  bool aligned;
};

// dL/dW = x^T G of some layers, consumed by the update of their W.
constexpr int kMaxLayersOfUpdate = 16;
struct WeightUpdateLayer {
  int64_t inputs;
  int64_t outputs;
  const void* x;         // [batch, inputs] of T
  const void* gradient;  // [batch, outputs] of T
  splitop_variable kernel;
};
struct WeightUpdateArgs {
  int64_t batch;
  splitop_update_rule rule;
  const void* hyper;
  bool large_tile;  // of all layers
  bool aligned;     // likewise
  int num_layers;
  WeightUpdateLayer layers[kMaxLayersOfUpdate];
};

struct DenseChainKernels {
  splitop_status (*gradient)(const GradientArgs& args, const Queue& queue);
  splitop_status (*product)(const ProductArgs& args, const Queue& queue);
  splitop_status (*weight_update)(const WeightUpdateArgs& args, const Queue& queue);
};

const DenseChainKernels& dense_chain_kernels_float32();
const DenseChainKernels& dense_chain_kernels_tf32();
const DenseChainKernels& dense_chain_kernels_float64();
const DenseChainKernels& dense_chain_kernels_bfloat16();
const DenseChainKernels& dense_chain_kernels_float16();

}  // namespace splitop::cuda

#endif  // SPLITOP_KERNELS_CUDA_DENSE_CHAIN_KERNELS_H_
