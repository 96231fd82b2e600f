#include "python/dense_chain_arguments.h"

#include <utility>

#include "python/dtypes.h"
#include "python/names.h"
#include "python/variables.h"

namespace py = pybind11;

namespace splitop {
namespace {

void require_matrix(const ArrayView& array, const std::string& name) {
  if (array.shape.size() == 2) return;
  throw py::value_error(name + " must have 2 dimensions. Received: shape " +
                        to_string(array.shape));
}

void require_chained(const splitop_dense_layer& above, const splitop_dense_layer& layer,
                     const std::string& name) {
  if (layer.outputs == above.inputs) return;
  throw py::value_error(
      name + "kernel must have " + std::to_string(above.inputs) +
      " columns, the inputs of the layer above. Received: " + std::to_string(layer.outputs));
}

}  // namespace

DenseChainArguments::DenseChainArguments(Arrays::Viewer viewer, py::handle seed,
                                         const std::vector<DenseLayer>& layers,
                                         const std::string& rule, py::handle hyper,
                                         bool input_gradient, bool forward)
    : arrays_(std::move(viewer)) {
  const ArrayView seed_view = arrays_.view(seed, "seed");
  chain_.dtype = dtype_of(
      seed_view, {SPLITOP_FLOAT32, SPLITOP_FLOAT64, SPLITOP_BFLOAT16, SPLITOP_FLOAT16}, "seed");
  chain_.variable_dtype = variable_dtype_for(chain_.dtype);
  dtype_ = splitop_dtype_name(chain_.dtype);
  variable_dtype_ = splitop_dtype_name(chain_.variable_dtype);
  chain_.rule = from_name(rule, splitop_update_rule_name, SPLITOP_NUM_UPDATE_RULES, "rule");
  require_matrix(seed_view, "seed");
  chain_.batch = seed_view.shape[0];
  chain_.forward = forward;
  chain_.num_layers = static_cast<int32_t>(layers.size());
  if (layers.empty()) throw py::value_error("layers must not be empty. Received: []");
  for (size_t l = 0; l < layers.size(); ++l) {
    const std::string name = "layers[" + std::to_string(l) + "].";
    layers_.push_back(layer(layers[l], name, forward && l + 1 < layers.size()));
    if (l > 0) require_chained(layers_[l - 1], layers_[l], name);
    if (chain_.dtype != chain_.variable_dtype && (l + 1 < layers.size() || input_gradient)) {
      layers_[l].kernel_copy =
          kernel_copy(layers[l], {layers_[l].inputs, layers_[l].outputs}, name + "kernel_copy");
    }
  }
  if (chain_.batch < 1) throw py::value_error("seed must have at least one row. Received: 0");
  chain_.layers = layers_.data();
  chain_.seed = arrays_.input(seed_view, dtype_, {chain_.batch, layers_[0].outputs}, "seed");
  chain_.hyper = arrays_.input(hyper, variable_dtype_, {splitop_num_hyper(chain_.rule)}, "hyper");
}

splitop_dense_layer DenseChainArguments::layer(const DenseLayer& from, const std::string& name,
                                               bool x_is_computed) {
  const ArrayView kernel = arrays_.view(from.kernel, name + "kernel");
  require_matrix(kernel, name + "kernel");
  splitop_dense_layer to{};
  to.inputs = kernel.shape[0];
  to.outputs = kernel.shape[1];
  to.activation =
      from_name(from.activation, splitop_activation_name, SPLITOP_NUM_ACTIVATIONS, "activation");
  to.alpha = from.alpha;
  if (!x_is_computed) {
    to.x = arrays_.input(from.x, dtype_, {chain_.batch, to.inputs}, name + "x");
  }
  if (to.activation != SPLITOP_LINEAR && !chain_.forward) {
    if (from.reference.is_none()) {
      throw py::value_error(name + "reference must be given for " + from.activation +
                            ". Received: None");
    }
    to.reference =
        arrays_.input(from.reference, dtype_, {chain_.batch, to.outputs}, name + "reference");
  }
  set_variables(from, kernel, name, &to);
  return to;
}

void DenseChainArguments::set_variables(const DenseLayer& from, const ArrayView& kernel,
                                        const std::string& name, splitop_dense_layer* to) {
  VariableSpec spec{chain_.rule, variable_dtype_, kernel.shape, name + "kernel",
                    name + "kernel_slots"};
  to->kernel = to_variable(arrays_, spec, kernel, from.kernel_slots, from.kernel_decayed);
  if (!from.kernel_gradient.is_none()) {
    to->kernel_gradient = arrays_.input(from.kernel_gradient, variable_dtype_, kernel.shape,
                                        name + "kernel_gradient");
  }
  if (from.bias.is_none()) return;
  spec.shape = {to->outputs};
  spec.name = name + "bias";
  spec.slots_name = name + "bias_slots";
  to->bias = to_variable(arrays_, spec, arrays_.view(from.bias, spec.name), from.bias_slots,
                         from.bias_decayed);
}

void DenseChainArguments::set_clips(py::handle clips) {
  std::vector<splitop_variable*> variables;
  for (splitop_dense_layer& layer : layers_) variables.push_back(&layer.kernel);
  for (splitop_dense_layer& layer : layers_) {
    if (layer.bias.value != nullptr) variables.push_back(&layer.bias);
  }
  set_variable_clips(arrays_, clips, variable_dtype_, variables);
}

const void* DenseChainArguments::kernel_copy(const DenseLayer& from, const Shape& shape,
                                             const std::string& name) {
  if (from.kernel_copy.is_none()) {
    throw py::value_error(name + " must be given for " + dtype_ +
                          " where dL/dx is computed. Received: None");
  }
  return arrays_.input(from.kernel_copy, dtype_, shape, name);
}

}  // namespace splitop
