#include "python/update_arguments.h"

#include <utility>

#include "python/dtypes.h"
#include "python/names.h"
#include "python/variables.h"

namespace py = pybind11;

namespace splitop {
namespace {

void require_length(size_t received, size_t expected, const char* name) {
  if (received == expected) return;
  throw py::value_error(std::string(name) + " must have " + std::to_string(expected) +
                        " entries, one a variable. Received: " + std::to_string(received));
}

// Of all gradients, told by the first one.
splitop_dtype gradient_dtype(Arrays& arrays, const UpdateArguments::Objects& gradients,
                             splitop_dtype variable_dtype) {
  if (gradients.empty()) return variable_dtype;
  const ArrayView first = arrays.view(gradients[0], "gradients[0]");
  if (variable_dtype != SPLITOP_FLOAT32) return dtype_of(first, {variable_dtype}, "gradients[0]");
  return dtype_of(first, {SPLITOP_FLOAT32, SPLITOP_BFLOAT16, SPLITOP_FLOAT16}, "gradients[0]");
}

}  // namespace

UpdateArguments::UpdateArguments(Arrays::Viewer viewer, const Objects& gradients,
                                 const Objects& variables, const std::vector<Objects>& slots,
                                 const std::string& rule, py::handle hyper,
                                 const std::vector<bool>& decayed)
    : arrays_(std::move(viewer)) {
  require_length(gradients.size(), variables.size(), "gradients");
  require_length(slots.size(), variables.size(), "slots");
  require_length(decayed.size(), variables.size(), "decayed");
  update_.rule = from_name(rule, splitop_update_rule_name, SPLITOP_NUM_UPDATE_RULES, "rule");
  const ArrayView hyper_view = arrays_.view(hyper, "hyper");
  update_.variable_dtype = dtype_of(hyper_view, {SPLITOP_FLOAT32, SPLITOP_FLOAT64}, "hyper");
  const std::string dtype = splitop_dtype_name(update_.variable_dtype);
  update_.hyper = arrays_.input(hyper_view, dtype, {splitop_num_hyper(update_.rule)}, "hyper");
  update_.gradient_dtype = gradient_dtype(arrays_, gradients, update_.variable_dtype);
  for (size_t i = 0; i < variables.size(); ++i) {
    const std::string index = "[" + std::to_string(i) + "]";
    const ArrayView value = arrays_.view(variables[i], "variables" + index);
    const VariableSpec spec{update_.rule, dtype, value.shape, "variables" + index, "slots" + index};
    splitop_tensor_update tensor{};
    tensor.count = value.size();
    tensor.rows = value.shape.empty() ? 1 : value.shape[0];
    tensor.gradient = arrays_.input(gradients[i], splitop_dtype_name(update_.gradient_dtype),
                                    value.shape, "gradients" + index);
    tensor.variable = to_variable(arrays_, spec, value, slots[i], decayed[i]);
    tensors_.push_back(tensor);
  }
  update_.num_tensors = static_cast<int32_t>(tensors_.size());
  update_.tensors = tensors_.data();
}

void UpdateArguments::set_clips(py::handle clips) {
  std::vector<splitop_variable*> variables;
  for (splitop_tensor_update& tensor : tensors_) variables.push_back(&tensor.variable);
  set_variable_clips(arrays_, clips, splitop_dtype_name(update_.variable_dtype), variables);
}

}  // namespace splitop
