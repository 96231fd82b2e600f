// The op Splitop>Check: an assertion that XLA does not drop, as it does tf.debugging.Assert.
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "jit/check_message.h"
#include "jit/node_attrs.h"
#include "jit/targets.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/literal.h"

namespace splitop {
namespace {

using tensorflow::XlaOpKernelContext;

REGISTER_OP("Splitop>Check")
    .Input("tensor: T")
    .Input("condition: bool")
    .Input("numbers: num_numbers * int64")
    .Output("checked: T")
    .Attr("T: {float, double, bfloat16, half}")
    .Attr("num_numbers: int >= 0")
    .Attr("messages: list(string) >= 1")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape)
    .Doc(R"doc(
The tensor, if a condition holds; else an error. Inside jit_compile=True only.

XLA drops assertions, and knows no order but that of its values: what may not run before a check has
to take its output. A condition that is known when XLA compiles, as one on shapes is, is checked
then. Another one is checked in each step on CPUs, and on GPUs, which would have to wait for the
answer, not at all.

tensor: Any tensor.
condition: A scalar.
numbers: Scalars and vectors for the message.
checked: The same tensor.
T: Its type.
num_numbers: How many numbers there are.
messages: The parts of the message; there are numbers after each of the first ones.
)doc");

class CheckKernel : public tensorflow::XlaOpKernel {
 public:
  explicit CheckKernel(tensorflow::OpKernelConstruction* context)
      : XlaOpKernel(context), node_(NodeAttrs::ToText(def())) {
    OP_REQUIRES_OK(context, context->GetAttr("messages", &messages_));
  }

  void Compile(XlaOpKernelContext* context) override {
    xla::Literal known;
    if (context->ConstantInput(1, &known).ok()) {
      if (!known.Get<bool>({})) OP_REQUIRES_OK(context, Failed(context));
      context->SetOutput(0, context->Input(0));
      return;
    }
    OP_REQUIRES_OK(context, CheckLater(context));
  }

 private:
  virtual absl::Status CheckLater(XlaOpKernelContext* context) const {
    std::vector<xla::XlaOp> operands;
    for (int i = 0; i < context->num_inputs(); ++i) operands.push_back(context->Input(i));
    TF_ASSIGN_OR_RETURN(const xla::Shape shape, context->InputXlaShape(0));
    context->SetOutput(
        0, xla::CustomCall(context->builder(), kCheckTarget, operands, shape,
                           absl::StrCat("{node = ", QuoteForMlir(node_), "}"),
                           /*has_side_effect=*/false, {{{}, {0, {}}}}, /*literal=*/nullptr,
                           xla::CustomCallSchedule::SCHEDULE_NONE,
                           xla::CustomCallApiVersion::API_VERSION_TYPED_FFI));
    return absl::OkStatus();
  }

  absl::Status Failed(XlaOpKernelContext* context) const {
    CheckMessage message(messages_);
    for (int i = 2; i < context->num_inputs(); ++i) {
      xla::Literal numbers;
      if (!context->ConstantInput(i, &numbers).ok()) break;
      message.Add(numbers.data<int64_t>(), numbers.shape().dimensions().empty());
    }
    return absl::InvalidArgumentError(message.Finish());
  }

  const std::string node_;
  std::vector<std::string> messages_;
};

class CompileTimeCheckKernel final : public CheckKernel {
 public:
  using CheckKernel::CheckKernel;

 private:
  absl::Status CheckLater(XlaOpKernelContext* context) const override {
    context->SetOutput(0, context->Input(0));
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("Splitop>Check").Device(tensorflow::DEVICE_CPU_XLA_JIT), CheckKernel);
REGISTER_KERNEL_BUILDER(Name("Splitop>Check").Device(tensorflow::DEVICE_GPU_XLA_JIT),
                        CompileTimeCheckKernel);

}  // namespace
}  // namespace splitop
