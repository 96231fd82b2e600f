#include "kernels/checks.h"

#include <algorithm>

namespace splitop {
namespace {

bool valid_variable(const splitop_variable& variable, int32_t num_slots) {
  return variable.value != nullptr && std::all_of(variable.slots, variable.slots + num_slots,
                                                  [](const void* slot) { return slot != nullptr; });
}

bool valid_layer(const splitop_dense_chain& chain, int32_t l, int32_t num_slots) {
  const splitop_dense_layer& layer = chain.layers[l];
  if (layer.inputs < 1 || layer.outputs < 1 || layer.x == nullptr) return false;
  if (l > 0 && layer.outputs != chain.layers[l - 1].inputs) return false;
  if (layer.activation < 0 || layer.activation >= SPLITOP_NUM_ACTIVATIONS) return false;
  if (layer.activation != SPLITOP_LINEAR && layer.reference == nullptr) return false;
  if (mixed_precision(chain) && needs_input_gradient(chain, l) && layer.kernel_copy == nullptr) {
    return false;
  }
  if (!valid_variable(layer.kernel, num_slots)) return false;
  return layer.bias.value == nullptr || valid_variable(layer.bias, num_slots);
}

}  // namespace

bool valid_types(splitop_dtype tensors, splitop_dtype variables) {
  if (tensors == variables) {
    return variables == SPLITOP_FLOAT32 || variables == SPLITOP_FLOAT64;
  }
  return splitop_dtype_bytes(tensors) == 2 && variables == SPLITOP_FLOAT32;
}

bool valid(const splitop_dense_chain* chain) {
  if (chain == nullptr || chain->num_layers < 1 || chain->layers == nullptr) return false;
  if (!valid_types(chain->dtype, chain->variable_dtype)) return false;
  const int32_t num_slots = splitop_num_slots(chain->rule);
  if (chain->batch < 1 || chain->seed == nullptr || chain->hyper == nullptr || num_slots < 0) {
    return false;
  }
  for (int32_t l = 0; l < chain->num_layers; ++l) {
    if (!valid_layer(*chain, l, num_slots)) return false;
  }
  return true;
}

bool valid(const splitop_multi_tensor_update* update) {
  if (update == nullptr || update->num_tensors < 0) return false;
  if (update->num_tensors > 0 && update->tensors == nullptr) return false;
  if (!valid_types(update->gradient_dtype, update->variable_dtype)) return false;
  const int32_t num_slots = splitop_num_slots(update->rule);
  if (update->hyper == nullptr || num_slots < 0) return false;
  return std::all_of(update->tensors, update->tensors + update->num_tensors,
                     [num_slots](const splitop_tensor_update& tensor) {
                       return tensor.count == 0 ||
                              (tensor.count > 0 && tensor.gradient != nullptr &&
                               valid_variable(tensor.variable, num_slots));
                     });
}

}  // namespace splitop
