// The attributes of Splitop>DenseChain, parsed and checked, and the places of its inputs.
//
// Shared by the shape function and by the kernels of every device. "Variables" are the
// weights: the kernels of all layers, then the biases of the layers that have one.
// "Resources" are the variables, then each variable's slots. In mixed precision the tensors
// have 16 bits; a kernel whose dL/dx is computed then comes with a copy of the tensors' type.
#ifndef SPLITOP_TF_DENSE_CHAIN_ATTRS_H_
#define SPLITOP_TF_DENSE_CHAIN_ATTRS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/activation.h"
#include "splitop/update_rule.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/platform/errors.h"
#include "tf/names.h"
#include "tf/resources.h"

namespace splitop {

struct DenseLayerAttrs {
  std::string name;  // what the user calls the layer's kernel
  splitop_activation activation;
  float alpha;
  int reference;  // place among the references; -1: linear, has none
  int bias;       // place among the variables; -1: has none
};

struct VariableAttrs {
  int layer;
  bool is_bias;
  bool decayed;
};

struct DenseChainAttrs {
  std::vector<DenseLayerAttrs> layers;
  std::vector<VariableAttrs> variables;
  std::string seed_name;
  splitop_update_rule rule;
  tensorflow::DataType dtype;           // of the tensors
  tensorflow::DataType variable_dtype;  // of variables, slots and hyper
  int num_references = 0;
  int num_kernel_copies = 0;
  bool input_gradient = false;
  Resources resources;

  bool mixed() const { return dtype != variable_dtype; }
  int num_layers() const { return static_cast<int>(layers.size()); }
  int num_variables() const { return static_cast<int>(variables.size()); }
  int slots_per_variable() const { return splitop_num_slots(rule); }
  int num_resources() const { return num_variables() * (1 + slots_per_variable()); }

  // Places among the op's inputs.
  int SeedInput() const { return 0; }
  int LayerInput(int layer) const { return 1 + layer; }
  int ReferenceInput(int reference) const { return 1 + num_layers() + reference; }
  int KernelCopyInput(int layer) const { return ReferenceInput(num_references) + layer; }
  int ResourceInput(int resource) const { return KernelCopyInput(num_kernel_copies) + resource; }
  int HyperInput() const { return ResourceInput(num_resources()); }
  int num_inputs() const { return HyperInput() + 1; }

  // Only the bottom layer may have none.
  bool HasKernelCopy(int layer) const { return layer < num_kernel_copies; }

  // Places among the resources; a variable has the same place in both lists.
  int SlotResource(int variable, int slot) const {
    return num_variables() + variable * slots_per_variable() + slot;
  }
  bool IsSlot(int resource) const { return resource >= num_variables(); }
  int VariableOf(int resource) const {
    return IsSlot(resource) ? (resource - num_variables()) / slots_per_variable() : resource;
  }

  const std::string& DescribeResource(int resource) const {
    return resources.descriptions[resource];
  }
};

// The attributes as TensorFlow hands them over.
struct RawDenseChainAttrs {
  tensorflow::DataType dtype, variable_dtype;
  int num_layers, num_references, num_kernel_copies, num_biases, num_slots, num_input_gradients;
  std::vector<std::string> activations, layer_names;
  std::vector<float> alphas;
  std::vector<bool> use_bias, decayed;
  std::string rule, seed_name;
};

template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status GetRawAttrs(Context* context, RawDenseChainAttrs* raw) {
  TF_RETURN_IF_ERROR(context->GetAttr("T", &raw->dtype));
  TF_RETURN_IF_ERROR(context->GetAttr("V", &raw->variable_dtype));
  TF_RETURN_IF_ERROR(context->GetAttr("num_layers", &raw->num_layers));
  TF_RETURN_IF_ERROR(context->GetAttr("num_references", &raw->num_references));
  TF_RETURN_IF_ERROR(context->GetAttr("num_kernel_copies", &raw->num_kernel_copies));
  TF_RETURN_IF_ERROR(context->GetAttr("num_biases", &raw->num_biases));
  TF_RETURN_IF_ERROR(context->GetAttr("num_slots", &raw->num_slots));
  TF_RETURN_IF_ERROR(context->GetAttr("num_input_gradients", &raw->num_input_gradients));
  TF_RETURN_IF_ERROR(context->GetAttr("activations", &raw->activations));
  TF_RETURN_IF_ERROR(context->GetAttr("alphas", &raw->alphas));
  TF_RETURN_IF_ERROR(context->GetAttr("use_bias", &raw->use_bias));
  TF_RETURN_IF_ERROR(context->GetAttr("rule", &raw->rule));
  TF_RETURN_IF_ERROR(context->GetAttr("decayed", &raw->decayed));
  TF_RETURN_IF_ERROR(context->GetAttr("layer_names", &raw->layer_names));
  return context->GetAttr("seed_name", &raw->seed_name);
}

inline absl::Status CheckCount(std::string_view what, int64_t expected, int64_t received) {
  return CheckCount("Splitop>DenseChain", what, expected, received);
}

// Variables have the tensors' type, or are of float where the tensors have 16 bits.
inline absl::Status CheckDtypes(const RawDenseChainAttrs& raw) {
  const bool short_tensors =
      raw.dtype == tensorflow::DT_BFLOAT16 || raw.dtype == tensorflow::DT_HALF;
  const tensorflow::DataType expected = short_tensors ? tensorflow::DT_FLOAT : raw.dtype;
  if (raw.variable_dtype == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "splitop: Splitop>DenseChain takes variables of ", tensorflow::DataTypeString(expected),
      " with tensors of ", tensorflow::DataTypeString(raw.dtype),
      ". Received: ", tensorflow::DataTypeString(raw.variable_dtype), "."));
}

// The lists that hold one entry a layer.
inline absl::Status CheckLayerLists(const RawDenseChainAttrs& raw) {
  const int64_t layers = raw.num_layers;
  TF_RETURN_IF_ERROR(CheckCount("activations, one a layer", layers, raw.activations.size()));
  TF_RETURN_IF_ERROR(CheckCount("alphas, one a layer", layers, raw.alphas.size()));
  TF_RETURN_IF_ERROR(CheckCount("use_bias entries, one a layer", layers, raw.use_bias.size()));
  return CheckCount("layer_names, one a layer", layers, raw.layer_names.size());
}

inline absl::Status ParseLayers(const RawDenseChainAttrs& raw, DenseChainAttrs* attrs) {
  TF_RETURN_IF_ERROR(CheckLayerLists(raw));
  int num_biases = 0;
  for (int l = 0; l < raw.num_layers; ++l) {
    DenseLayerAttrs layer;
    layer.name = raw.layer_names[l];
    layer.alpha = raw.alphas[l];
    TF_RETURN_IF_ERROR(ParseActivation(raw.activations[l], &layer.activation));
    layer.reference = layer.activation == SPLITOP_LINEAR ? -1 : attrs->num_references++;
    layer.bias = raw.use_bias[l] ? raw.num_layers + num_biases++ : -1;
    attrs->layers.push_back(std::move(layer));
  }
  TF_RETURN_IF_ERROR(CheckCount("references, one for each layer that is not linear",
                                attrs->num_references, raw.num_references));
  return CheckCount("biases, one for each layer that uses one", num_biases, raw.num_biases);
}

inline absl::Status ParseVariables(const RawDenseChainAttrs& raw, DenseChainAttrs* attrs) {
  TF_RETURN_IF_ERROR(CheckCount("decayed entries, one a kernel, then one a bias",
                                raw.num_layers + raw.num_biases, raw.decayed.size()));
  const int layers = raw.num_layers;
  for (int l = 0; l < layers; ++l) attrs->variables.push_back({l, false, raw.decayed[l]});
  for (int l = 0; l < layers; ++l) {
    const int bias = attrs->layers[l].bias;
    if (bias >= 0) attrs->variables.push_back({l, true, raw.decayed[bias]});
  }
  return CheckCount(absl::StrCat("slots, the rule \"", raw.rule, "\" having ",
                                 attrs->slots_per_variable(), " a variable"),
                    attrs->num_variables() * attrs->slots_per_variable(), raw.num_slots);
}

inline absl::Status ParseInputGradient(const RawDenseChainAttrs& raw, DenseChainAttrs* attrs) {
  if (raw.num_input_gradients > 1) {
    return CheckCount("input gradients at most", 1, raw.num_input_gradients);
  }
  attrs->input_gradient = raw.num_input_gradients == 1;
  if (attrs->mixed()) attrs->num_kernel_copies = raw.num_layers - 1 + raw.num_input_gradients;
  return CheckCount("kernel_copies, in mixed precision one for each kernel whose dL/dx is computed",
                    attrs->num_kernel_copies, raw.num_kernel_copies);
}

inline Resources DenseChainResources(const DenseChainAttrs& attrs) {
  std::vector<std::string> variables;
  for (const VariableAttrs& variable : attrs.variables) {
    const std::string& name = attrs.layers[variable.layer].name;
    variables.push_back(
        absl::StrCat(variable.is_bias ? "the bias of \"" : "kernel \"", name, "\""));
  }
  Resources resources;
  resources.first_input = attrs.ResourceInput(0);
  resources.dtype = attrs.variable_dtype;
  resources.dtype_of = attrs.mixed() ? "the hyperparameters are" : "the seed is";
  resources.descriptions = WithSlots(std::move(variables), attrs.slots_per_variable());
  return resources;
}

// Reads the attributes and checks that they fit together.
template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status ReadDenseChainAttrs(Context* context, DenseChainAttrs* attrs) {
  RawDenseChainAttrs raw;
  TF_RETURN_IF_ERROR(GetRawAttrs(context, &raw));
  attrs->seed_name = raw.seed_name;
  TF_RETURN_IF_ERROR(CheckDtypes(raw));
  attrs->dtype = raw.dtype;
  attrs->variable_dtype = raw.variable_dtype;
  TF_RETURN_IF_ERROR(ParseRule(raw.rule, &attrs->rule));
  TF_RETURN_IF_ERROR(ParseLayers(raw, attrs));
  TF_RETURN_IF_ERROR(ParseVariables(raw, attrs));
  TF_RETURN_IF_ERROR(ParseInputGradient(raw, attrs));
  attrs->resources = DenseChainResources(*attrs);
  return absl::OkStatus();
}

}  // namespace splitop

#endif  // SPLITOP_TF_DENSE_CHAIN_ATTRS_H_
