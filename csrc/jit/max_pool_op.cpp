// Splitop>MaxPoolGrad inside XLA, as TensorFlow's gradient is there.
//
// Plans for XLA leave it to TensorFlow; this is for a step that was traced outside of it.
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/util/padding.h"
#include "xla/hlo/builder/lib/arithmetic.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo/builder/padding.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/shape.h"

namespace splitop {
namespace {

class MaxPoolGradXlaKernel final : public tensorflow::XlaOpKernel {
 public:
  explicit MaxPoolGradXlaKernel(tensorflow::OpKernelConstruction* context) : XlaOpKernel(context) {
    tensorflow::Padding padding;
    OP_REQUIRES_OK(context, context->GetAttr("ksize", &ksize_));
    OP_REQUIRES_OK(context, context->GetAttr("strides", &strides_));
    OP_REQUIRES_OK(context, context->GetAttr("padding", &padding));
    padding_ = padding == tensorflow::SAME ? xla::Padding::kSame : xla::Padding::kValid;
    std::string activation;
    OP_REQUIRES_OK(context, context->GetAttr("activation", &activation));
    is_relu_ = activation == "relu";
  }

  void Compile(tensorflow::XlaOpKernelContext* context) override {
    const absl::StatusOr<xla::Shape> x = context->InputXlaShape(0);
    OP_REQUIRES_OK(context, x.status());
    const xla::PrimitiveType type = x->element_type();
    xla::XlaBuilder* const builder = context->builder();
    const auto is_larger_or_equal = xla::CreateScalarGeComputation(type, builder);
    const auto sum = xla::CreateScalarAddComputation(type, builder);
    xla::XlaOp gradient =
        xla::SelectAndScatter(context->Input(0), is_larger_or_equal, ksize_, strides_, padding_,
                              context->Input(2), xla::Zero(builder, type), sum);
    if (is_relu_) {  // a selection, unlike the kernel's product, as TensorFlow's is here
      const xla::XlaOp none = xla::ZerosLike(gradient);
      gradient = xla::Select(xla::Gt(context->Input(0), none), gradient, none);
    }
    context->SetOutput(0, gradient);
  }

 private:
  std::vector<int64_t> ksize_, strides_;
  xla::Padding padding_;
  bool is_relu_;
};

REGISTER_KERNEL_BUILDER(Name("Splitop>MaxPoolGrad").Device(tensorflow::DEVICE_CPU_XLA_JIT),
                        MaxPoolGradXlaKernel);
REGISTER_KERNEL_BUILDER(Name("Splitop>MaxPoolGrad").Device(tensorflow::DEVICE_GPU_XLA_JIT),
                        MaxPoolGradXlaKernel);

}  // namespace
}  // namespace splitop
