// The kernels of Splitop>DenseChain, apart from what a device adds.
#ifndef SPLITOP_TF_DENSE_CHAIN_KERNEL_H_
#define SPLITOP_TF_DENSE_CHAIN_KERNEL_H_

#include "absl/status/status.h"
#include "splitop/dense_chain.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/dense_chain_arguments.h"
#include "tf/dense_chain_attrs.h"
#include "tf/dense_chain_shapes.h"
#include "tf/input_shapes.h"
#include "tf/locked_variables.h"
#include "tf/op_kernel.h"
#include "tf/update_attrs.h"
#include "tf/update_kernel.h"

namespace splitop {

// dL/dx of the bottom layer as output `output` of the op, if it is wanted.
template <typename Arguments>  // DenseChainArguments
absl::Status AllocateInputGradient(tensorflow::OpKernelContext* context, int output,
                                   const DenseChainAttrs& attrs, const DenseChainDims& dims,
                                   Arguments* arguments) {
  if (!attrs.input_gradient) return absl::OkStatus();
  tensorflow::Tensor* tensor = nullptr;
  TF_RETURN_IF_ERROR(context->allocate_output(
      output, tensorflow::TensorShape({dims.batch, dims.widths.back()}), &tensor));
  arguments->SetInputGradient(tensor->data());
  return absl::OkStatus();
}

class DenseChainKernel : public NoThrowKernel {
 public:
  explicit DenseChainKernel(tensorflow::OpKernelConstruction* context) : NoThrowKernel(context) {
    OP_REQUIRES_OK(context, ReadDenseChainAttrs(context, &attrs_));
  }

 protected:
  const DenseChainAttrs& attrs() const { return attrs_; }

  // Keeps the locks until the work is done, or enqueued.
  absl::Status Run(tensorflow::OpKernelContext* context,
                   const DeviceCall<splitop_dense_chain>& device) const {
    LockedVariables variables(attrs_.resources);
    TF_RETURN_IF_ERROR(variables.Acquire(context));
    const InputShapes shapes = ReceivedInputShapes(context, attrs_.resources, variables);
    DenseChainShapeCheck check(attrs_, shapes);
    TF_RETURN_IF_ERROR(check.Run());
    if (!Applies(context, attrs_.update)) return absl::OkStatus();
    DenseChainArguments arguments(context, attrs_, check.dims());
    TF_RETURN_IF_ERROR(AllocateInputGradient(context, 0, attrs_, check.dims(), &arguments));
    return Update(context, device, &variables, &arguments);
  }

 private:
  DenseChainAttrs attrs_;
};

}  // namespace splitop

#endif  // SPLITOP_TF_DENSE_CHAIN_KERNEL_H_
