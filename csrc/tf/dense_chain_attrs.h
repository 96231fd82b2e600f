// The attributes of Splitop>DenseChain, parsed and checked, and the places of its inputs.
//
// Shared by the shape function and by the kernels of every device. "Variables" are the
// weights: the kernels of all layers, then the biases of the layers that have one.
// "Resources" are the variables, then each variable's slots. In mixed precision the tensors
// have 16 bits; a kernel whose dL/dx is computed then comes with a copy of the tensors' type.
// Where the op runs the forward pass itself, it takes the bottom layer's input and no reference.
// The gradients of all kernels may be given, each of which may be empty: then it is worked out.
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
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/platform/errors.h"
#include "tf/names.h"
#include "tf/resources.h"
#include "tf/update_attrs.h"

namespace splitop {

struct DenseLayerAttrs {
  std::string name;  // what the user calls the layer's kernel
  splitop_activation activation;
  float alpha;
  int reference;  // place among the references; -1: none is given
  int bias;       // place among the variables; -1: has none
};

struct VariableAttrs {
  int layer;
  bool is_bias;
};

struct DenseChainAttrs {
  std::vector<DenseLayerAttrs> layers;
  std::vector<VariableAttrs> variables;
  std::string seed_name;
  tensorflow::DataType dtype;           // of the tensors
  tensorflow::DataType variable_dtype;  // of variables, slots and hyper
  int num_layer_inputs = 0;
  int num_references = 0;
  int num_kernel_copies = 0;
  int num_kernel_gradients = 0;
  bool forward = false;  // the op runs the forward pass
  bool input_gradient = false;
  bool updates = true;  // else the variables are only read: there is no update, and no slot
  UpdateAttrs update;
  Resources resources;

  bool mixed() const { return dtype != variable_dtype; }
  int num_layers() const { return static_cast<int>(layers.size()); }
  int num_variables() const { return static_cast<int>(variables.size()); }

  // Places among the op's inputs.
  int SeedInput() const { return 0; }
  int LayerInput(int layer) const { return 1 + layer - (num_layers() - num_layer_inputs); }
  int ReferenceInput(int reference) const { return 1 + num_layer_inputs + reference; }
  int KernelCopyInput(int layer) const { return ReferenceInput(num_references) + layer; }
  int ResourceInput(int resource) const { return resources.Input(resource); }
  int KernelGradientInput(int layer) const { return update.EndInput() + layer; }

  bool HasLayerInput(int layer) const { return layer >= num_layers() - num_layer_inputs; }

  // Only the bottom layer may have none.
  bool HasKernelCopy(int layer) const { return layer < num_kernel_copies; }
  bool HasKernelGradient(int layer) const { return layer < num_kernel_gradients; }

  const std::string& DescribeResource(int resource) const {
    return resources.descriptions[resource];
  }
};

// The attributes that describe the layers, as TensorFlow hands them over.
struct RawLayerAttrs {
  tensorflow::DataType dtype;
  int num_layers, num_references, num_input_gradients;
  std::vector<std::string> activations, layer_names;
  std::vector<float> alphas;
  std::string seed_name;
};

template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status GetRawAttrs(Context* context, RawLayerAttrs* raw) {
  TF_RETURN_IF_ERROR(context->GetAttr("T", &raw->dtype));
  TF_RETURN_IF_ERROR(context->GetAttr("num_layers", &raw->num_layers));
  TF_RETURN_IF_ERROR(context->GetAttr("num_references", &raw->num_references));
  TF_RETURN_IF_ERROR(context->GetAttr("num_input_gradients", &raw->num_input_gradients));
  TF_RETURN_IF_ERROR(context->GetAttr("activations", &raw->activations));
  TF_RETURN_IF_ERROR(context->GetAttr("alphas", &raw->alphas));
  TF_RETURN_IF_ERROR(context->GetAttr("layer_names", &raw->layer_names));
  return context->GetAttr("seed_name", &raw->seed_name);
}

// The lists that hold one entry a layer.
inline absl::Status CheckLayerLists(std::string_view op, const RawLayerAttrs& raw) {
  const int64_t layers = raw.num_layers;
  TF_RETURN_IF_ERROR(CheckCount(op, "activations, one a layer", layers, raw.activations.size()));
  TF_RETURN_IF_ERROR(CheckCount(op, "alphas, one a layer", layers, raw.alphas.size()));
  return CheckCount(op, "layer_names, one a layer", layers, raw.layer_names.size());
}

// Variables have the tensors' type, or are of float where the tensors have 16 bits.
inline tensorflow::DataType VariableDtype(tensorflow::DataType tensors) {
  const bool has_16_bits = tensors == tensorflow::DT_BFLOAT16 || tensors == tensorflow::DT_HALF;
  return has_16_bits ? tensorflow::DT_FLOAT : tensors;
}

template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status ReadKernelCopies(Context* context, std::string_view op, DenseChainAttrs* attrs) {
  int received;
  TF_RETURN_IF_ERROR(context->GetAttr("num_kernel_copies", &received));
  if (attrs->mixed()) attrs->num_kernel_copies = attrs->num_layers() - !attrs->input_gradient;
  return CheckCount(op,
                    "kernel_copies, in mixed precision one for each kernel whose dL/dx is computed",
                    attrs->num_kernel_copies, received);
}

// The layers without their biases. attrs->forward is set.
template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status ReadLayers(Context* context, std::string_view op, DenseChainAttrs* attrs) {
  RawLayerAttrs raw;
  TF_RETURN_IF_ERROR(GetRawAttrs(context, &raw));
  TF_RETURN_IF_ERROR(CheckLayerLists(op, raw));
  attrs->dtype = raw.dtype;
  attrs->variable_dtype = VariableDtype(raw.dtype);
  attrs->seed_name = raw.seed_name;
  for (int l = 0; l < raw.num_layers; ++l) {
    DenseLayerAttrs layer;
    layer.name = raw.layer_names[l];
    layer.alpha = raw.alphas[l];
    TF_RETURN_IF_ERROR(ParseActivation(raw.activations[l], &layer.activation));
    const bool has_reference = layer.activation != SPLITOP_LINEAR && !attrs->forward;
    layer.reference = has_reference ? attrs->num_references++ : -1;
    layer.bias = -1;
    attrs->layers.push_back(std::move(layer));
    attrs->variables.push_back({l, false});
  }
  attrs->num_layer_inputs = attrs->forward ? 1 : raw.num_layers;
  TF_RETURN_IF_ERROR(CheckCount(op,
                                attrs->forward
                                    ? "references, as it runs the forward pass"
                                    : "references, one for each layer that is not linear",
                                attrs->num_references, raw.num_references));
  if (raw.num_input_gradients > 1) {
    return CheckCount(op, "input gradients at most", 1, raw.num_input_gradients);
  }
  attrs->input_gradient = raw.num_input_gradients == 1;
  return ReadKernelCopies(context, op, attrs);
}

// Of all layers, or of none.
template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status ReadKernelGradients(Context* context, std::string_view op,
                                 const DenseChainAttrs& attrs, int* count) {
  TF_RETURN_IF_ERROR(context->GetAttr("num_kernel_gradients", count));
  if (*count == 0) return absl::OkStatus();
  return CheckCount(op, "kernel_gradients, one a layer or none", attrs.num_layers(), *count);
}

template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status CheckVariableDtype(Context* context, std::string_view op,
                                const DenseChainAttrs& attrs) {
  tensorflow::DataType received;
  TF_RETURN_IF_ERROR(context->GetAttr("V", &received));
  if (received == attrs.variable_dtype) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "splitop: ", op, " takes variables of ", tensorflow::DataTypeString(attrs.variable_dtype),
      " with tensors of ", tensorflow::DataTypeString(attrs.dtype),
      ". Received: ", tensorflow::DataTypeString(received), "."));
}

constexpr char kDenseChain[] = "Splitop>DenseChain";

template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status ReadBiases(Context* context, DenseChainAttrs* attrs) {
  std::vector<bool> use_bias;
  int num_biases;
  TF_RETURN_IF_ERROR(context->GetAttr("use_bias", &use_bias));
  TF_RETURN_IF_ERROR(context->GetAttr("num_biases", &num_biases));
  TF_RETURN_IF_ERROR(CheckCount(kDenseChain, "use_bias entries, one a layer", attrs->num_layers(),
                                use_bias.size()));
  for (int l = 0; l < attrs->num_layers(); ++l) {
    if (!use_bias[l]) continue;
    attrs->layers[l].bias = attrs->num_variables();
    attrs->variables.push_back({l, true});
  }
  return CheckCount(kDenseChain, "biases, one for each layer that uses one",
                    attrs->num_variables() - attrs->num_layers(), num_biases);
}

// The forward pass takes the place of what it computes. In mixed precision it would have to round
// as TensorFlow's does.
template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status CheckForward(Context* context, const DenseChainAttrs& attrs) {
  int received;
  TF_RETURN_IF_ERROR(context->GetAttr("num_layer_inputs", &received));
  TF_RETURN_IF_ERROR(CheckCount(kDenseChain,
                                attrs.forward
                                    ? "layer_inputs, that of the bottom layer, with forward"
                                    : "layer_inputs, one a layer",
                                attrs.num_layer_inputs, received));
  if (!attrs.forward || !attrs.mixed()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("splitop: ", kDenseChain, " runs the forward pass of float and double tensors. ",
                   "Received: ", tensorflow::DataTypeString(attrs.dtype), "."));
}

// A row-wise rule takes whole rows of a kernel's gradient, of which there are parts at a time.
inline absl::Status CheckRule(const DenseChainAttrs& attrs) {
  if (!splitop_is_rowwise(attrs.update.rule)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("splitop: ", kDenseChain, " takes no row-wise update rule. Received: \"",
                   splitop_update_rule_name(attrs.update.rule), "\"."));
}

// An update that may not happen can't give dL/dx, which is always needed.
inline absl::Status CheckCondition(const DenseChainAttrs& attrs) {
  if (attrs.update.num_conditions == 0 || !attrs.input_gradient) return absl::OkStatus();
  return CheckCount(kDenseChain, "input gradients with a condition", 0, 1);
}

inline Resources DenseChainResources(const DenseChainAttrs& attrs) {
  std::vector<std::string> variables;
  for (const VariableAttrs& variable : attrs.variables) {
    const std::string& name = attrs.layers[variable.layer].name;
    variables.push_back(
        absl::StrCat(variable.is_bias ? "the bias of \"" : "kernel \"", name, "\""));
  }
  Resources resources =
      MakeResources(std::move(variables), attrs.updates ? attrs.update.slots_each() : 0);
  resources.first_input = attrs.KernelCopyInput(attrs.num_kernel_copies);
  resources.dtype = attrs.variable_dtype;
  resources.dtype_of = !attrs.mixed()  ? "the seed is"
                       : attrs.updates ? "the hyperparameters are"
                                       : "it has to be in mixed precision";
  return resources;
}

// Reads the attributes and checks that they fit together.
template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status ReadDenseChainAttrs(Context* context, DenseChainAttrs* attrs) {
  TF_RETURN_IF_ERROR(context->GetAttr("forward", &attrs->forward));
  TF_RETURN_IF_ERROR(ReadLayers(context, kDenseChain, attrs));
  TF_RETURN_IF_ERROR(CheckForward(context, *attrs));
  TF_RETURN_IF_ERROR(CheckVariableDtype(context, kDenseChain, *attrs));
  TF_RETURN_IF_ERROR(
      ReadKernelGradients(context, kDenseChain, *attrs, &attrs->num_kernel_gradients));
  TF_RETURN_IF_ERROR(ReadBiases(context, attrs));
  const VariableWords words = {"one a kernel, then one a bias", "a variable"};
  TF_RETURN_IF_ERROR(
      ReadUpdateAttrs(context, kDenseChain, attrs->num_variables(), words, true, &attrs->update));
  TF_RETURN_IF_ERROR(CheckRule(*attrs));
  TF_RETURN_IF_ERROR(CheckCondition(*attrs));
  attrs->resources = DenseChainResources(*attrs);
  attrs->update.first_input = attrs->resources.end_input();
  return absl::OkStatus();
}

}  // namespace splitop

#endif  // SPLITOP_TF_DENSE_CHAIN_ATTRS_H_
