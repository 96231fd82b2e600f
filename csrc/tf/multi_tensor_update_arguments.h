// The argument of the C function behind Splitop>MultiTensorUpdate, from its inputs and variables.
#ifndef SPLITOP_TF_MULTI_TENSOR_UPDATE_ARGUMENTS_H_
#define SPLITOP_TF_MULTI_TENSOR_UPDATE_ARGUMENTS_H_

#include <vector>

#include "splitop/multi_tensor_update.h"
#include "tf/multi_tensor_update_attrs.h"
#include "tf/names.h"
#include "tf/update_attrs.h"

namespace splitop {

// They point into the inputs and the variables.
template <typename Inputs>  // OpKernelContext, or what else has input(index)
class MultiTensorUpdateArguments {
 public:
  MultiTensorUpdateArguments(Inputs* inputs, const MultiTensorUpdateAttrs& attrs)
      : inputs_(inputs), attrs_(attrs), tensors_(attrs.num_variables()) {
    for (int v = 0; v < attrs.num_variables(); ++v) {
      const auto& gradient = inputs->input(attrs.GradientInput(v));
      tensors_[v].count = gradient.NumElements();
      tensors_[v].rows = gradient.dims() > 0 ? gradient.dim_size(0) : 1;
      tensors_[v].gradient = gradient.data();
    }
    update_.gradient_dtype = update_.variable_dtype = ToSplitopDtype(attrs.resources.dtype);
    update_.rule = attrs.update.rule;
    update_.hyper = inputs->input(attrs.update.HyperInput()).data();
    update_.num_tensors = attrs.num_variables();
    update_.tensors = tensors_.data();
  }
  MultiTensorUpdateArguments(const MultiTensorUpdateArguments&) = delete;
  MultiTensorUpdateArguments& operator=(const MultiTensorUpdateArguments&) = delete;

  // Where the variables are now.
  template <typename Variables>  // LockedVariables, or what else has tensor(resource)
  void SetVariables(const Variables& variables) {
    for (int v = 0; v < attrs_.num_variables(); ++v) {
      tensors_[v].variable =
          VariableArgument(inputs_, attrs_.update, attrs_.resources, variables, v);
    }
  }

  const splitop_multi_tensor_update& call() const { return update_; }

 private:
  Inputs* const inputs_;
  const MultiTensorUpdateAttrs& attrs_;
  std::vector<splitop_tensor_update> tensors_;
  splitop_multi_tensor_update update_ = {};
};

}  // namespace splitop

#endif  // SPLITOP_TF_MULTI_TENSOR_UPDATE_ARGUMENTS_H_
