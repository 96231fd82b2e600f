// The attributes of Splitop>MultiTensorUpdate, parsed and checked, and the places of its inputs.
#ifndef SPLITOP_TF_MULTI_TENSOR_UPDATE_ATTRS_H_
#define SPLITOP_TF_MULTI_TENSOR_UPDATE_ATTRS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/platform/errors.h"
#include "tf/input_shapes.h"
#include "tf/names.h"
#include "tf/resources.h"
#include "tf/shapes.h"
#include "tf/update_attrs.h"

namespace splitop {

struct MultiTensorUpdateAttrs {
  std::vector<std::string> names;  // what the user calls the variables
  UpdateAttrs update;
  Resources resources;

  int num_variables() const { return static_cast<int>(names.size()); }

  // Place among the op's inputs.
  int GradientInput(int variable) const { return variable; }
};

inline Resources MultiTensorUpdateResources(const MultiTensorUpdateAttrs& attrs,
                                            tensorflow::DataType dtype) {
  std::vector<std::string> variables;
  for (const std::string& name : attrs.names) {
    variables.push_back(absl::StrCat("variable \"", name, "\""));
  }
  Resources resources = MakeResources(std::move(variables), attrs.update.slots_each());
  resources.first_input = attrs.num_variables();
  resources.dtype = dtype;
  resources.dtype_of = "its gradient is";
  return resources;
}

// Reads the attributes and checks that they fit together.
template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status ReadMultiTensorUpdateAttrs(Context* context, MultiTensorUpdateAttrs* attrs) {
  constexpr char kOp[] = "Splitop>MultiTensorUpdate";
  tensorflow::DataType dtype;
  int num_variables;
  TF_RETURN_IF_ERROR(context->GetAttr("T", &dtype));
  TF_RETURN_IF_ERROR(context->GetAttr("num_variables", &num_variables));
  TF_RETURN_IF_ERROR(context->GetAttr("variable_names", &attrs->names));
  TF_RETURN_IF_ERROR(
      CheckCount(kOp, "variable_names, one a variable", num_variables, attrs->names.size()));
  const VariableWords words = {"one a variable", "a variable"};
  TF_RETURN_IF_ERROR(ReadUpdateAttrs(context, kOp, num_variables, words, true, &attrs->update));
  attrs->resources = MultiTensorUpdateResources(*attrs, dtype);
  attrs->update.first_input = attrs->resources.end_input();
  return absl::OkStatus();
}

// Checks the shapes of all inputs; a resource's is that of its variable.
inline absl::Status CheckMultiTensorUpdateShapes(const MultiTensorUpdateAttrs& attrs,
                                                 const InputShapes& shapes) {
  TF_RETURN_IF_ERROR(CheckUpdateInputs(attrs.update, shapes));
  for (int v = 0; v < attrs.num_variables(); ++v) {
    TF_RETURN_IF_ERROR(ExpectSameShape(shapes[attrs.GradientInput(v)],
                                       shapes[attrs.resources.Input(v)],
                                       absl::StrCat("the gradient of \"", attrs.names[v], "\"")));
  }
  return CheckSlots(attrs.update, attrs.resources, shapes);
}

}  // namespace splitop

#endif  // SPLITOP_TF_MULTI_TENSOR_UPDATE_ATTRS_H_
