// The kernels of Splitop>MultiTensorUpdate, apart from what a device adds.
#ifndef SPLITOP_TF_MULTI_TENSOR_UPDATE_KERNEL_H_
#define SPLITOP_TF_MULTI_TENSOR_UPDATE_KERNEL_H_

#include "absl/status/status.h"
#include "splitop/multi_tensor_update.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf/input_shapes.h"
#include "tf/locked_variables.h"
#include "tf/multi_tensor_update_arguments.h"
#include "tf/multi_tensor_update_attrs.h"
#include "tf/op_kernel.h"
#include "tf/update_attrs.h"
#include "tf/update_kernel.h"

namespace splitop {

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
