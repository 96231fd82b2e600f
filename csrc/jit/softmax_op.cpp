// Splitop>SoftmaxGrad inside XLA, composed of XLA's own operations.
//
// Plans for XLA leave it to TensorFlow; this is for a step that was traced outside of it.
#include <cstdint>
#include <numeric>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "xla/hlo/builder/lib/arithmetic.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/shape.h"

namespace splitop {
namespace {

class SoftmaxGradXlaKernel final : public tensorflow::XlaOpKernel {
 public:
  using XlaOpKernel::XlaOpKernel;

  void Compile(tensorflow::XlaOpKernelContext* context) override {
    const xla::XlaOp dy = context->Input(0), y = context->Input(1);
    const absl::StatusOr<xla::Shape> of_dy = context->InputXlaShape(0);
    const absl::StatusOr<xla::Shape> shape = context->InputXlaShape(1);
    OP_REQUIRES_OK(context, of_dy.status());
    OP_REQUIRES_OK(context, shape.status());
    OP_REQUIRES(
        context, !shape->dimensions().empty() && of_dy->dimensions() == shape->dimensions(),
        absl::InvalidArgumentError(absl::StrCat(
            "splitop: Splitop>SoftmaxGrad: dy and y must be of the same shape, of rank 1 at "
            "least. Received: ",
            of_dy->ToString(), " and ", shape->ToString(), ".")));
    const auto last = static_cast<int64_t>(shape->dimensions().size()) - 1;
    std::vector<int64_t> leading(last);
    std::iota(leading.begin(), leading.end(), 0);
    const xla::PrimitiveType type = shape->element_type();
    xla::XlaBuilder* const builder = context->builder();
    const xla::XlaOp along = xla::Reduce(xla::Mul(dy, y), xla::Zero(builder, type),
                                         xla::CreateScalarAddComputation(type, builder), {last});
    context->SetOutput(0, xla::Mul(xla::Sub(dy, along, leading), y));
  }
};

REGISTER_KERNEL_BUILDER(Name("Splitop>SoftmaxGrad").Device(tensorflow::DEVICE_CPU_XLA_JIT),
                        SoftmaxGradXlaKernel);
REGISTER_KERNEL_BUILDER(Name("Splitop>SoftmaxGrad").Device(tensorflow::DEVICE_GPU_XLA_JIT),
                        SoftmaxGradXlaKernel);

}  // namespace
}  // namespace splitop
