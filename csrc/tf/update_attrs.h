// What every op that updates variables is told of the update: the rule, whom it decays, and the
// inputs after the variables: the hyperparameters, the conditions and the clips.
#ifndef SPLITOP_TF_UPDATE_ATTRS_H_
#define SPLITOP_TF_UPDATE_ATTRS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/update_rule.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/platform/errors.h"
#include "tf/input_shapes.h"
#include "tf/names.h"
#include "tf/resources.h"
#include "tf/shapes.h"

namespace splitop {

struct UpdateAttrs {
  splitop_update_rule rule = SPLITOP_SGD;
  std::vector<bool> decayed;  // one a variable
  int num_conditions = 0;     // 1: the variables are updated only if it holds
  int num_clips = 0;          // 1: the gradients are scaled and clipped
  int first_input = 0;

  int num_variables() const { return static_cast<int>(decayed.size()); }
  int slots_each() const { return splitop_num_slots(rule); }

  // Places among the op's inputs.
  int HyperInput() const { return first_input; }
  int ConditionInput() const { return HyperInput() + 1; }
  int ClipsInput() const { return ConditionInput() + num_conditions; }
  int EndInput() const { return ClipsInput() + num_clips; }
};

// What an op calls a variable in its messages.
struct VariableWords {
  const char* each;  // "one a table"
  const char* one;   // "a table"
};

// Reads the attributes that concern the update. clips: whether the op has them.
template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status ReadUpdateAttrs(Context* context, std::string_view op, int num_variables,
                             const VariableWords& words, bool clips, UpdateAttrs* attrs) {
  std::string rule;
  int num_slots;
  TF_RETURN_IF_ERROR(context->GetAttr("rule", &rule));
  TF_RETURN_IF_ERROR(context->GetAttr("decayed", &attrs->decayed));
  TF_RETURN_IF_ERROR(context->GetAttr("num_slots", &num_slots));
  TF_RETURN_IF_ERROR(context->GetAttr("num_conditions", &attrs->num_conditions));
  if (clips) TF_RETURN_IF_ERROR(context->GetAttr("num_clips", &attrs->num_clips));
  TF_RETURN_IF_ERROR(ParseRule(rule, &attrs->rule));
  TF_RETURN_IF_ERROR(CheckCount(op, absl::StrCat("decayed entries, ", words.each), num_variables,
                                attrs->decayed.size()));
  if (attrs->num_conditions > 1) {
    return CheckCount(op, "conditions at most", 1, attrs->num_conditions);
  }
  if (attrs->num_clips > 1) return CheckCount(op, "clips at most", 1, attrs->num_clips);
  return CheckCount(
      op,
      absl::StrCat("slots, the rule \"", rule, "\" having ", attrs->slots_each(), " ", words.one),
      num_variables * attrs->slots_each(), num_slots);
}

// Checks the shapes of the inputs that concern the update.
inline absl::Status CheckUpdateInputs(const UpdateAttrs& attrs, const InputShapes& shapes) {
  int64_t hyper = splitop_num_hyper(attrs.rule);
  TF_RETURN_IF_ERROR(ExpectShape(shapes[attrs.HyperInput()], {&hyper}, [] {
    return ShapeDescription{"SplitError", "input hyper", "the update rule's hyperparameters"};
  }));
  if (attrs.num_conditions > 0) {
    TF_RETURN_IF_ERROR(ExpectShape(shapes[attrs.ConditionInput()], {}, [] {
      return ShapeDescription{"SplitError", "input conditions", "a scalar"};
    }));
  }
  if (attrs.num_clips == 0) return absl::OkStatus();
  int64_t variables = attrs.num_variables();
  int64_t scalars = 2;
  return ExpectShape(shapes[attrs.ClipsInput()], {&variables, &scalars}, [] {
    return ShapeDescription{"SplitError", "input clips", "a factor and a bound for each variable"};
  });
}

// Checks that every slot is laid out as its variable, or of a row-wise rule as its rows.
inline absl::Status CheckSlots(const UpdateAttrs& attrs, const Resources& resources,
                               const InputShapes& shapes) {
  const bool rowwise = splitop_is_rowwise(attrs.rule) != 0;
  for (int v = 0; v < resources.num_variables; ++v) {
    const tensorflow::PartialTensorShape& variable = shapes[resources.Input(v)];
    for (int s = 0; s < resources.slots_each; ++s) {
      const int slot = resources.Slot(v, s);
      const tensorflow::PartialTensorShape& received = shapes[resources.Input(slot)];
      const std::string& what = resources.descriptions[slot];
      TF_RETURN_IF_ERROR(rowwise ? ExpectShapeOf(received, RowsShape(variable), what,
                                                 "an element for each row of its variable")
                                 : ExpectSameShape(received, variable, what));
    }
  }
  return absl::OkStatus();
}

// Whether the variables are to be updated. The condition is in host memory.
template <typename Inputs>  // OpKernelContext, or what else has input(index)
bool Applies(Inputs* inputs, const UpdateAttrs& attrs) {
  return attrs.num_conditions == 0 ||
         *static_cast<const bool*>(inputs->input(attrs.ConditionInput()).data());
}

// The argument of the C ABI for one variable. It points into the inputs and the variables.
template <typename Inputs, typename Variables>  // what has input(index), what has tensor(resource)
splitop_variable VariableArgument(Inputs* inputs, const UpdateAttrs& attrs,
                                  const Resources& resources, const Variables& variables,
                                  int variable) {
  splitop_variable argument = {};
  argument.value = variables.tensor(variable)->data();
  for (int s = 0; s < resources.slots_each; ++s) {
    argument.slots[s] = variables.tensor(resources.Slot(variable, s))->data();
  }
  argument.decayed = attrs.decayed[variable];
  if (attrs.num_clips > 0) {
    const size_t bytes = 2 * tensorflow::DataTypeSize(resources.dtype);
    const auto* clips = static_cast<const char*>(inputs->input(attrs.ClipsInput()).data());
    argument.clip = clips + bytes * variable;
  }
  return argument;
}

}  // namespace splitop

#endif  // SPLITOP_TF_UPDATE_ATTRS_H_
