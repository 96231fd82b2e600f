// The op Splitop>After: an order that XLA keeps, as it does not keep control dependencies.
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "jit/targets.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "xla/hlo/builder/xla_builder.h"

namespace splitop {
namespace {

using tensorflow::XlaOpKernelContext;

REGISTER_OP("Splitop>After")
    .Input("tensor: T")
    .Input("before: Ts")
    .Output("after: T")
    .Attr("T: {float, double}")
    .Attr("Ts: list(type) >= 1")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape)
    .Doc(R"doc(
The tensor, once others are there. Inside jit_compile=True only.

An op that updates a variable takes its output. What has read the variable before is then known to be
over, or XLA would copy the variable.

tensor: A small tensor.
before: Tensors of any kind; they are not looked at.
after: The same tensor.
T: Its type.
Ts: The types of the others.
)doc");

class AfterKernel final : public tensorflow::XlaOpKernel {
 public:
  using XlaOpKernel::XlaOpKernel;

  void Compile(XlaOpKernelContext* context) override { OP_REQUIRES_OK(context, Emit(context)); }

 private:
  static absl::Status Emit(XlaOpKernelContext* context) {
    std::vector<xla::XlaOp> operands;
    for (int i = 0; i < context->num_inputs(); ++i) operands.push_back(context->Input(i));
    TF_ASSIGN_OR_RETURN(const xla::Shape shape, context->InputXlaShape(0));
    context->SetOutput(0,
                       xla::CustomCall(context->builder(), kAfterTarget, operands, shape, "{}",
                                       /*has_side_effect=*/false, {{{}, {0, {}}}},
                                       /*literal=*/nullptr, xla::CustomCallSchedule::SCHEDULE_NONE,
                                       xla::CustomCallApiVersion::API_VERSION_TYPED_FFI));
    return absl::OkStatus();
  }
};

REGISTER_KERNEL_BUILDER(Name("Splitop>After").Device(tensorflow::DEVICE_CPU_XLA_JIT), AfterKernel);
REGISTER_KERNEL_BUILDER(Name("Splitop>After").Device(tensorflow::DEVICE_GPU_XLA_JIT), AfterKernel);

}  // namespace
}  // namespace splitop
