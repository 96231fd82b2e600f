// The attributes of Splitop>MultiTensorUpdate, parsed and checked, and the places of its inputs.
#ifndef SPLITOP_TF_MULTI_TENSOR_UPDATE_ATTRS_H_
#define SPLITOP_TF_MULTI_TENSOR_UPDATE_ATTRS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/update_rule.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/platform/errors.h"
#include "tf/input_shapes.h"
#include "tf/names.h"
#include "tf/resources.h"
#include "tf/shapes.h"

namespace splitop {

struct MultiTensorUpdateAttrs {
  std::vector<std::string> names;  // what the user calls the variables
  std::vector<bool> decayed;
  splitop_update_rule rule;
  tensorflow::DataType dtype;
  Resources resources;

  int num_variables() const { return static_cast<int>(names.size()); }
  int slots_per_variable() const { return splitop_num_slots(rule); }

  // Places among the op's inputs.
  int GradientInput(int variable) const { return variable; }
  int HyperInput() const { return resources.Input(resources.size()); }

  // Places among the resources.
  int SlotResource(int variable, int slot) const {
    return num_variables() + variable * slots_per_variable() + slot;
  }
};

inline Resources MultiTensorUpdateResources(const MultiTensorUpdateAttrs& attrs) {
  std::vector<std::string> variables;
  for (const std::string& name : attrs.names) {
    variables.push_back(absl::StrCat("variable \"", name, "\""));
  }
  Resources resources;
  resources.first_input = attrs.num_variables();
  resources.dtype = attrs.dtype;
  resources.dtype_of = "its gradient is";
  resources.descriptions = WithSlots(std::move(variables), attrs.slots_per_variable());
  return resources;
}

// Reads the attributes and checks that they fit together.
template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status ReadMultiTensorUpdateAttrs(Context* context, MultiTensorUpdateAttrs* attrs) {
  constexpr char kOp[] = "Splitop>MultiTensorUpdate";
  int num_variables, num_slots;
  std::string rule;
  TF_RETURN_IF_ERROR(context->GetAttr("T", &attrs->dtype));
  TF_RETURN_IF_ERROR(context->GetAttr("num_variables", &num_variables));
  TF_RETURN_IF_ERROR(context->GetAttr("num_slots", &num_slots));
  TF_RETURN_IF_ERROR(context->GetAttr("rule", &rule));
  TF_RETURN_IF_ERROR(context->GetAttr("decayed", &attrs->decayed));
  TF_RETURN_IF_ERROR(context->GetAttr("variable_names", &attrs->names));
  TF_RETURN_IF_ERROR(ParseRule(rule, &attrs->rule));
  TF_RETURN_IF_ERROR(
      CheckCount(kOp, "variable_names, one a variable", num_variables, attrs->names.size()));
  TF_RETURN_IF_ERROR(
      CheckCount(kOp, "decayed entries, one a variable", num_variables, attrs->decayed.size()));
  TF_RETURN_IF_ERROR(CheckCount(kOp,
                                absl::StrCat("slots, the rule \"", rule, "\" having ",
                                             attrs->slots_per_variable(), " a variable"),
                                num_variables * attrs->slots_per_variable(), num_slots));
  attrs->resources = MultiTensorUpdateResources(*attrs);
  return absl::OkStatus();
}

// Checks the shapes of all inputs; a resource's is that of its variable.
inline absl::Status CheckMultiTensorUpdateShapes(const MultiTensorUpdateAttrs& attrs,
                                                 const InputShapes& shapes) {
  int64_t count = splitop_num_hyper(attrs.rule);
  TF_RETURN_IF_ERROR(ExpectShape(shapes[attrs.HyperInput()], {&count}, [] {
    return ShapeDescription{"SplitError", "input hyper", "the update rule's hyperparameters"};
  }));
  for (int v = 0; v < attrs.num_variables(); ++v) {
    const auto& variable = shapes[attrs.resources.Input(v)];
    TF_RETURN_IF_ERROR(ExpectSameShape(shapes[attrs.GradientInput(v)], variable,
                                       absl::StrCat("the gradient of \"", attrs.names[v], "\"")));
    for (int s = 0; s < attrs.slots_per_variable(); ++s) {
      const int slot = attrs.SlotResource(v, s);
      TF_RETURN_IF_ERROR(ExpectSameShape(shapes[attrs.resources.Input(slot)], variable,
                                         attrs.resources.descriptions[slot]));
    }
  }
  return absl::OkStatus();
}

}  // namespace splitop

#endif  // SPLITOP_TF_MULTI_TENSOR_UPDATE_ATTRS_H_
