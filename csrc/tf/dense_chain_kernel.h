// The kernels of Splitop>DenseChain, apart from what a device adds.
#ifndef SPLITOP_TF_DENSE_CHAIN_KERNEL_H_
#define SPLITOP_TF_DENSE_CHAIN_KERNEL_H_

#include <vector>

#include "absl/status/status.h"
#include "splitop/dense_chain.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/dense_chain_attrs.h"
#include "tf/dense_chain_shapes.h"
#include "tf/input_shapes.h"
#include "tf/locked_variables.h"
#include "tf/names.h"
#include "tf/op_kernel.h"
#include "tf/update_attrs.h"
#include "tf/update_kernel.h"

namespace splitop {

// The arguments of the C function. They point into tensors of the context and of the variables.
class DenseChainArguments {
 public:
  DenseChainArguments(tensorflow::OpKernelContext* context, const DenseChainAttrs& attrs,
                      const DenseChainDims& dims)
      : context_(context), attrs_(attrs), dims_(dims), layers_(attrs.num_layers()) {
    chain_.dtype = ToSplitopDtype(attrs.dtype);
    chain_.variable_dtype = ToSplitopDtype(attrs.variable_dtype);
    chain_.batch = dims.batch;
    chain_.num_layers = attrs.num_layers();
    chain_.layers = layers_.data();
    chain_.seed = Data(attrs.SeedInput());
    if (attrs.updates) {
      chain_.rule = attrs.update.rule;
      chain_.hyper = Data(attrs.update.HyperInput());
    }
    for (int l = 0; l < attrs.num_layers(); ++l) SetLayer(l);
  }
  DenseChainArguments(const DenseChainArguments&) = delete;
  DenseChainArguments& operator=(const DenseChainArguments&) = delete;

  // Where the variables are now.
  void SetVariables(const LockedVariables& variables) {
    for (int l = 0; l < attrs_.num_layers(); ++l) {
      layers_[l].kernel = Variable(variables, l);
      const int bias = attrs_.layers[l].bias;
      if (bias >= 0) layers_[l].bias = Variable(variables, bias);
    }
  }

  void SetInputGradient(void* input_gradient) { chain_.input_gradient = input_gradient; }

  const splitop_dense_chain& call() const { return chain_; }

 private:
  const void* Data(int input) const { return context_->input(input).data(); }

  void SetLayer(int l) {
    const DenseLayerAttrs& attrs = attrs_.layers[l];
    splitop_dense_layer& layer = layers_[l];
    layer.inputs = dims_.widths[l + 1];
    layer.outputs = dims_.widths[l];
    layer.x = Data(attrs_.LayerInput(l));
    if (attrs.reference >= 0) layer.reference = Data(attrs_.ReferenceInput(attrs.reference));
    if (attrs_.HasKernelCopy(l)) layer.kernel_copy = Data(attrs_.KernelCopyInput(l));
    layer.activation = attrs.activation;
    layer.alpha = attrs.alpha;
  }

  splitop_variable Variable(const LockedVariables& variables, int variable) const {
    if (!attrs_.updates) return {variables.tensor(variable)->data(), {}, 0, nullptr};
    return VariableArgument(context_, attrs_.update, attrs_.resources, variables, variable);
  }

  tensorflow::OpKernelContext* const context_;
  const DenseChainAttrs& attrs_;
  const DenseChainDims& dims_;
  std::vector<splitop_dense_layer> layers_;
  splitop_dense_chain chain_ = {};
};

// dL/dx of the bottom layer as output `output` of the op, if it is wanted.
inline absl::Status AllocateInputGradient(tensorflow::OpKernelContext* context, int output,
                                          const DenseChainAttrs& attrs, const DenseChainDims& dims,
                                          DenseChainArguments* arguments) {
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
