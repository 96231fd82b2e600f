// Splitop>Conv2D and its gradients inside XLA, as TensorFlow's convolutions are there.
//
// Plans for XLA leave convolutions to TensorFlow; this is for a step that was traced outside of it.
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "tensorflow/compiler/tf2xla/kernels/conv_op_helpers.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "xla/hlo/builder/lib/arithmetic.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/shape.h"

namespace splitop {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::XlaOpKernelContext;

class ConvolutionXlaKernel : public tensorflow::XlaOpKernel {
 public:
  explicit ConvolutionXlaKernel(OpKernelConstruction* context) : XlaOpKernel(context) {
    absl::StatusOr<tensorflow::ConvOpAttrs> attrs =
        tensorflow::ConvOpAttrs::Create(/*num_spatial_dims=*/2, /*depthwise=*/false, context);
    OP_REQUIRES_OK(context, attrs.status());
    attrs_ = *attrs;
  }

 protected:
  const tensorflow::ConvOpAttrs& attrs() const { return attrs_; }

 private:
  tensorflow::ConvOpAttrs attrs_;
};

class Conv2DXlaKernel final : public ConvolutionXlaKernel {
 public:
  explicit Conv2DXlaKernel(OpKernelConstruction* context) : ConvolutionXlaKernel(context) {
    std::string activation;
    OP_REQUIRES_OK(context, context->GetAttr("activation", &activation));
    is_relu_ = activation == "relu";
  }

  void Compile(XlaOpKernelContext* context) override {
    const absl::StatusOr<xla::XlaOp> convolved =
        tensorflow::MakeXlaForwardConvOp("Conv2D", context->Input(0), context->Input(1), attrs());
    OP_REQUIRES_OK(context, convolved.status());
    xla::XlaOp y = *convolved;
    if (context->num_inputs() > 2) y = xla::Add(y, context->Input(2), {3});
    context->SetOutput(0, is_relu_ ? xla::Max(y, xla::ZerosLike(y)) : y);
  }

 private:
  bool is_relu_;
};

class Conv2DFilterGradXlaKernel final : public ConvolutionXlaKernel {
 public:
  using ConvolutionXlaKernel::ConvolutionXlaKernel;

  void Compile(XlaOpKernelContext* context) override {
    const xla::XlaOp dz = context->Input(0);
    const absl::StatusOr<xla::Shape> filter = context->InputXlaShape(2);
    OP_REQUIRES_OK(context, filter.status());
    const absl::StatusOr<xla::XlaOp> dfilter = tensorflow::MakeXlaBackpropFilterConvOp(
        "Conv2DBackpropFilter", context->Input(1), *filter, dz, attrs());
    OP_REQUIRES_OK(context, dfilter.status());
    context->SetOutput(0, *dfilter);
    xla::XlaBuilder* const builder = context->builder();
    const xla::PrimitiveType type = filter->element_type();
    context->SetOutput(1, xla::Reduce(dz, xla::Zero(builder, type),
                                      xla::CreateScalarAddComputation(type, builder), {0, 1, 2}));
  }
};

class Conv2DInputGradXlaKernel final : public ConvolutionXlaKernel {
 public:
  using ConvolutionXlaKernel::ConvolutionXlaKernel;

  void Compile(XlaOpKernelContext* context) override {
    const absl::StatusOr<xla::Shape> x = context->InputXlaShape(1);
    OP_REQUIRES_OK(context, x.status());
    const absl::StatusOr<xla::XlaOp> dx = tensorflow::MakeXlaBackpropInputConvOp(
        "Conv2DBackpropInput", *x, context->Input(2), context->Input(0), attrs());
    OP_REQUIRES_OK(context, dx.status());
    context->SetOutput(0, *dx);
  }
};

#define SPLITOP_REGISTER_XLA(device)                                               \
  REGISTER_KERNEL_BUILDER(Name("Splitop>Conv2D").Device(device), Conv2DXlaKernel); \
  REGISTER_KERNEL_BUILDER(Name("Splitop>Conv2DFilterGrad").Device(device),         \
                          Conv2DFilterGradXlaKernel);                              \
  REGISTER_KERNEL_BUILDER(Name("Splitop>Conv2DInputGrad").Device(device), Conv2DInputGradXlaKernel)
SPLITOP_REGISTER_XLA(tensorflow::DEVICE_CPU_XLA_JIT);
SPLITOP_REGISTER_XLA(tensorflow::DEVICE_GPU_XLA_JIT);
#undef SPLITOP_REGISTER_XLA

}  // namespace
}  // namespace splitop
