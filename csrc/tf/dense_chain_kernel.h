// What the kernels of Splitop>DenseChain have in common: glue between TensorFlow and
// splitop/dense_chain.h. A device adds where its work runs.
#ifndef SPLITOP_TF_DENSE_CHAIN_KERNEL_H_
#define SPLITOP_TF_DENSE_CHAIN_KERNEL_H_

#include <cstddef>
#include <cstdint>
#include <exception>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/dense_chain.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/dense_chain_attrs.h"
#include "tf/dense_chain_shapes.h"
#include "tf/locked_variables.h"

namespace splitop {

// A device, during one execution of the op. On a GPU all of it is enqueued on one stream.
class DeviceCall {
 public:
  virtual ~DeviceCall() = default;
  virtual size_t ScratchBytes(const splitop_dense_chain& chain) const = 0;
  virtual absl::Status Copy(const tensorflow::Tensor& from, tensorflow::Tensor* to) const = 0;
  virtual absl::Status Run(const splitop_dense_chain& chain, void* scratch, size_t bytes) const = 0;
};

inline absl::Status KernelError(absl::StatusCode code, absl::string_view received) {
  return absl::Status(code, absl::StrCat("splitop: Splitop>DenseChain: the kernel refused the "
                                         "call. Received: ",
                                         received, "."));
}

inline splitop_dtype ToSplitopDtype(tensorflow::DataType dtype) {
  switch (dtype) {
    case tensorflow::DT_DOUBLE:
      return SPLITOP_FLOAT64;
    case tensorflow::DT_BFLOAT16:
      return SPLITOP_BFLOAT16;
    case tensorflow::DT_HALF:
      return SPLITOP_FLOAT16;
    default:
      return SPLITOP_FLOAT32;
  }
}

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
    chain_.rule = attrs.rule;
    chain_.hyper = Data(attrs.HyperInput());
    for (int l = 0; l < attrs.num_layers(); ++l) SetLayer(l);
  }
  DenseChainArguments(const DenseChainArguments&) = delete;
  DenseChainArguments& operator=(const DenseChainArguments&) = delete;

  // Where the variables are now.
  void SetVariables(const LockedVariables& variables) {
    for (int l = 0; l < attrs_.num_layers(); ++l) {
      layers_[l].kernel = VariableArgument(variables, l);
      const int bias = attrs_.layers[l].bias;
      if (bias >= 0) layers_[l].bias = VariableArgument(variables, bias);
    }
  }

  void SetInputGradient(void* input_gradient) { chain_.input_gradient = input_gradient; }

  const splitop_dense_chain& chain() const { return chain_; }

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

  splitop_variable VariableArgument(const LockedVariables& variables, int variable) const {
    splitop_variable argument = {};
    argument.value = variables.tensor(variable)->data();
    for (int s = 0; s < attrs_.slots_per_variable(); ++s) {
      argument.slots[s] = variables.tensor(attrs_.SlotResource(variable, s))->data();
    }
    argument.decayed = attrs_.variables[variable].decayed;
    return argument;
  }

  tensorflow::OpKernelContext* const context_;
  const DenseChainAttrs& attrs_;
  const DenseChainDims& dims_;
  std::vector<splitop_dense_layer> layers_;
  splitop_dense_chain chain_ = {};
};

class DenseChainKernel : public tensorflow::OpKernel {
 public:
  explicit DenseChainKernel(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadDenseChainAttrs(context, &attrs_));
  }

  void Compute(tensorflow::OpKernelContext* context) override {
    OP_REQUIRES_OK(context, NoThrowExecute(context));
  }

 protected:
  // Sets up the device and calls Run.
  virtual absl::Status Execute(tensorflow::OpKernelContext* context) const = 0;

  // Keeps the locks until the work is done, or enqueued.
  absl::Status Run(tensorflow::OpKernelContext* context, const DeviceCall& device) const {
    LockedVariables variables(attrs_);
    TF_RETURN_IF_ERROR(variables.Acquire(context));
    const auto shapes = InputShapes(context, variables);
    DenseChainShapeCheck check(attrs_, shapes);
    TF_RETURN_IF_ERROR(check.Run());
    return Update(context, check.dims(), device, &variables);
  }

 private:
  // An exception that leaves Compute would end the process.
  absl::Status NoThrowExecute(tensorflow::OpKernelContext* context) const {
    try {
      return Execute(context);
    } catch (const std::exception& error) {
      return absl::InternalError(
          absl::StrCat("splitop: Splitop>DenseChain failed. Received: ", error.what(), "."));
    } catch (...) {
      return absl::InternalError("splitop: Splitop>DenseChain failed. Received: an exception.");
    }
  }

  // The shapes of all inputs; a resource's is that of its variable.
  DenseChainShapeCheck::Shapes InputShapes(tensorflow::OpKernelContext* context,
                                           const LockedVariables& variables) const {
    DenseChainShapeCheck::Shapes shapes;
    shapes.reserve(attrs_.num_inputs());
    for (int i = 0; i < attrs_.ResourceInput(0); ++i) shapes.push_back(context->input(i).shape());
    for (int r = 0; r < attrs_.num_resources(); ++r) shapes.push_back(variables.tensor(r)->shape());
    shapes.push_back(context->input(attrs_.HyperInput()).shape());
    return shapes;
  }

  // All memory is taken before a variable is touched: then nothing but the device can fail.
  absl::Status Update(tensorflow::OpKernelContext* context, const DenseChainDims& dims,
                      const DeviceCall& device, LockedVariables* variables) const {
    DenseChainArguments arguments(context, attrs_, dims);
    arguments.SetVariables(*variables);
    TF_RETURN_IF_ERROR(AllocateOutput(context, dims, &arguments));
    const size_t bytes = device.ScratchBytes(arguments.chain());
    tensorflow::Tensor scratch;
    TF_RETURN_IF_ERROR(AllocateScratch(context, bytes, &scratch));
    TF_RETURN_IF_ERROR(variables->PrepareToUpdate(
        context, [&](const auto& from, auto* to) { return device.Copy(from, to); }));
    arguments.SetVariables(*variables);  // some may have moved
    return device.Run(arguments.chain(), scratch.data(), bytes);
  }

  absl::Status AllocateOutput(tensorflow::OpKernelContext* context, const DenseChainDims& dims,
                              DenseChainArguments* arguments) const {
    if (!attrs_.input_gradient) return absl::OkStatus();
    tensorflow::Tensor* output = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(
        0, tensorflow::TensorShape({dims.batch, dims.widths.back()}), &output));
    arguments->SetInputGradient(output->data());
    return absl::OkStatus();
  }

  static absl::Status AllocateScratch(tensorflow::OpKernelContext* context, size_t bytes,
                                      tensorflow::Tensor* scratch) {
    return context->allocate_temp(tensorflow::DT_UINT8,
                                  tensorflow::TensorShape({static_cast<int64_t>(bytes)}), scratch);
  }

  DenseChainAttrs attrs_;
};

}  // namespace splitop

#endif  // SPLITOP_TF_DENSE_CHAIN_KERNEL_H_
