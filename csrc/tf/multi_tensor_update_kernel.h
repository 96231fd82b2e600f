// The kernels of Splitop>MultiTensorUpdate, apart from what a device adds.
#ifndef SPLITOP_TF_MULTI_TENSOR_UPDATE_KERNEL_H_
#define SPLITOP_TF_MULTI_TENSOR_UPDATE_KERNEL_H_

#include <vector>

#include "absl/status/status.h"
#include "splitop/multi_tensor_update.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf/input_shapes.h"
#include "tf/locked_variables.h"
#include "tf/multi_tensor_update_attrs.h"
#include "tf/names.h"
#include "tf/op_kernel.h"
#include "tf/update_attrs.h"
#include "tf/update_kernel.h"

namespace splitop {

// The arguments of the C function. They point into tensors of the context and of the variables.
class MultiTensorUpdateArguments {
 public:
  MultiTensorUpdateArguments(tensorflow::OpKernelContext* context,
                             const MultiTensorUpdateAttrs& attrs)
      : context_(context), attrs_(attrs), tensors_(attrs.num_variables()) {
    for (int v = 0; v < attrs.num_variables(); ++v) {
      const tensorflow::Tensor& gradient = context->input(attrs.GradientInput(v));
      tensors_[v].count = gradient.NumElements();
      tensors_[v].rows = gradient.dims() > 0 ? gradient.dim_size(0) : 1;
      tensors_[v].gradient = gradient.data();
    }
    update_.gradient_dtype = update_.variable_dtype = ToSplitopDtype(attrs.resources.dtype);
    update_.rule = attrs.update.rule;
    update_.hyper = context->input(attrs.update.HyperInput()).data();
    update_.num_tensors = attrs.num_variables();
    update_.tensors = tensors_.data();
  }
  MultiTensorUpdateArguments(const MultiTensorUpdateArguments&) = delete;
  MultiTensorUpdateArguments& operator=(const MultiTensorUpdateArguments&) = delete;

  // Where the variables are now.
  void SetVariables(const LockedVariables& variables) {
    for (int v = 0; v < attrs_.num_variables(); ++v) {
      tensors_[v].variable =
          VariableArgument(context_, attrs_.update, attrs_.resources, variables, v);
    }
  }

  const splitop_multi_tensor_update& call() const { return update_; }

 private:
  tensorflow::OpKernelContext* const context_;
  const MultiTensorUpdateAttrs& attrs_;
  std::vector<splitop_tensor_update> tensors_;
  splitop_multi_tensor_update update_ = {};
};

class MultiTensorUpdateKernel : public NoThrowKernel {
 public:
  explicit MultiTensorUpdateKernel(tensorflow::OpKernelConstruction* context)
      : NoThrowKernel(context) {
    OP_REQUIRES_OK(context, ReadMultiTensorUpdateAttrs(context, &attrs_));
  }

 protected:
  // Keeps the locks until the work is done, or enqueued.
  absl::Status Run(tensorflow::OpKernelContext* context,
                   const DeviceCall<splitop_multi_tensor_update>& device) const {
    LockedVariables variables(attrs_.resources);
    TF_RETURN_IF_ERROR(variables.Acquire(context));
    TF_RETURN_IF_ERROR(CheckMultiTensorUpdateShapes(
        attrs_, ReceivedInputShapes(context, attrs_.resources, variables)));
    if (!Applies(context, attrs_.update)) return absl::OkStatus();
    MultiTensorUpdateArguments arguments(context, attrs_);
    return Update(context, device, &variables, &arguments);
  }

 private:
  MultiTensorUpdateAttrs attrs_;
};

}  // namespace splitop

#endif  // SPLITOP_TF_MULTI_TENSOR_UPDATE_KERNEL_H_
