// Argument checks that the CPU and the CUDA side share.
#ifndef SPLITOP_KERNELS_CHECKS_H_
#define SPLITOP_KERNELS_CHECKS_H_

#include "splitop/batched_product.h"
#include "splitop/convolution.h"
#include "splitop/dense_chain.h"
#include "splitop/dense_sweep.h"
#include "splitop/layer_norm.h"
#include "splitop/max_pool.h"
#include "splitop/multi_tensor_update.h"
#include "splitop/softmax.h"
#include "splitop/table_lookup.h"
#include "splitop/table_update.h"

namespace splitop {

// Variables of one type; tensors of the same, or of 16 bits with float32 variables.
bool valid_types(splitop_dtype tensors, splitop_dtype variables);

bool valid(const splitop_dense_chain* chain);
bool valid(const splitop_dense_sweep* sweep);
bool valid(const splitop_squared_norms* norms);
bool valid(const splitop_multi_tensor_update* update);

// All but what is in ids and gradient_row.
bool valid(const splitop_multi_table_update* update);

// All but what is in ids.
bool valid(const splitop_table_lookup* lookup);

bool valid(const splitop_batched_product* product);
bool valid(const splitop_layer_norm* norm);
bool valid(const splitop_layer_norm_gradient* gradient);
bool valid(const splitop_softmax* softmax);
bool valid(const splitop_softmax_gradient* gradient);

bool valid(const splitop_convolution* convolution);
bool valid(const splitop_filter_gradient* gradient);
bool valid(const splitop_image_gradient* gradient);
bool valid(const splitop_max_pool_gradient* gradient);

// The chain whose gradients are swept. It has no slots, and is never updated.
splitop_dense_chain swept_chain(const splitop_dense_sweep& sweep);

inline bool mixed_precision(const splitop_dense_chain& chain) {
  return chain.dtype != chain.variable_dtype;
}

// Whether dL/dx of the layer is wanted: by the layer below or by the caller.
inline bool needs_input_gradient(const splitop_dense_chain& chain, int32_t layer) {
  return layer + 1 < chain.num_layers || chain.input_gradient != nullptr;
}

// Whether the caller gives a layer's x, and what its activation's gradient reads.
inline bool reads_input(const splitop_dense_chain& chain, int32_t layer) {
  return !chain.forward || layer + 1 == chain.num_layers;
}
inline bool reads_reference(const splitop_dense_chain& chain, int32_t layer) {
  return !chain.forward && chain.layers[layer].activation != SPLITOP_LINEAR;
}

}  // namespace splitop

#endif  // SPLITOP_KERNELS_CHECKS_H_
