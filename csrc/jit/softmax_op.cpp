// Splitop>Softmax and Splitop>SoftmaxGrad inside XLA, composed of XLA's own operations.
//
// Plans for XLA leave them to TensorFlow; these are for a step that was traced outside of it.
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

std::vector<int64_t> Leading(const xla::Shape& shape) {
  std::vector<int64_t> dimensions(shape.dimensions().size() - 1);
  std::iota(dimensions.begin(), dimensions.end(), 0);
  return dimensions;
}

class SoftmaxXlaKernel final : public tensorflow::XlaOpKernel {
 public:
  using XlaOpKernel::XlaOpKernel;

  void Compile(tensorflow::XlaOpKernelContext* context) override {
    const xla::XlaOp x = context->Input(0);
    const absl::StatusOr<xla::Shape> shape = context->InputXlaShape(0);
    OP_REQUIRES_OK(context, shape.status());
    OP_REQUIRES(context, !shape->dimensions().empty(),
                absl::InvalidArgumentError(absl::StrCat(
                    "splitop: Splitop>Softmax: x must be of rank 1 at least. Received: ",
                    shape->ToString(), ".")));
    const std::vector<int64_t> leading = Leading(*shape);
    const auto last = static_cast<int64_t>(leading.size());
    const xla::PrimitiveType type = shape->element_type();
    xla::XlaBuilder* const builder = context->builder();
    const xla::XlaOp largest = xla::Reduce(x, xla::MinValue(builder, type),
                                           xla::CreateScalarMaxComputation(type, builder), {last});
    const xla::XlaOp exponentials = xla::Exp(xla::Sub(x, largest, leading));
    const xla::XlaOp sum = xla::Reduce(exponentials, xla::Zero(builder, type),
                                       xla::CreateScalarAddComputation(type, builder), {last});
    context->SetOutput(0, xla::Div(exponentials, sum, leading));
  }
};

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
    const std::vector<int64_t> leading = Leading(*shape);
    const auto last = static_cast<int64_t>(leading.size());
    const xla::PrimitiveType type = shape->element_type();
    xla::XlaBuilder* const builder = context->builder();
    const xla::XlaOp along = xla::Reduce(xla::Mul(dy, y), xla::Zero(builder, type),
                                         xla::CreateScalarAddComputation(type, builder), {last});
    context->SetOutput(0, xla::Mul(xla::Sub(dy, along, leading), y));
  }
};

#define SPLITOP_REGISTER_XLA(device)                                                 \
  REGISTER_KERNEL_BUILDER(Name("Splitop>Softmax").Device(device), SoftmaxXlaKernel); \
  REGISTER_KERNEL_BUILDER(Name("Splitop>SoftmaxGrad").Device(device), SoftmaxGradXlaKernel)
SPLITOP_REGISTER_XLA(tensorflow::DEVICE_CPU_XLA_JIT);
SPLITOP_REGISTER_XLA(tensorflow::DEVICE_GPU_XLA_JIT);
#undef SPLITOP_REGISTER_XLA

}  // namespace
}  // namespace splitop
