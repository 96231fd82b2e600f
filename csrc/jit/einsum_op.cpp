// Splitop>Einsum inside XLA: XLA's own operations, which it fuses with what is around them.
//
// Plans for XLA leave the product to TensorFlow; this is for a step that was traced outside of it.
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo/builder/lib/matrix.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/shape.h"

namespace splitop {
namespace {

class EinsumXlaKernel final : public tensorflow::XlaOpKernel {
 public:
  explicit EinsumXlaKernel(tensorflow::OpKernelConstruction* context) : XlaOpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("equation", &equation_));
    std::string activation;
    OP_REQUIRES_OK(context, context->GetAttr("activation", &activation));
    is_relu_ = activation == "relu";
  }

  void Compile(tensorflow::XlaOpKernelContext* context) override {
    xla::XlaOp c =
        xla::Einsum(context->Input(0), context->Input(1), equation_, xla::PrecisionConfig::DEFAULT);
    if (context->num_inputs() > 2) {
      const absl::StatusOr<xla::Shape> shape = context->builder()->GetShape(c);
      const absl::StatusOr<xla::Shape> bias = context->InputXlaShape(2);
      OP_REQUIRES_OK(context, shape.status());
      OP_REQUIRES_OK(context, bias.status());
      const int64_t columns = shape->dimensions().back();
      const bool fits = bias->dimensions().size() == 1 && bias->dimensions(0) == columns;
      OP_REQUIRES(context, context->num_inputs() == 3 && fits,
                  absl::InvalidArgumentError(
                      absl::StrCat("splitop: Splitop>Einsum: biases may be one, of shape [",
                                   columns, "]. Received: ", context->num_inputs() - 2,
                                   ", the first of ", bias->ToString(), ".")));
      c = xla::Add(c, context->Input(2), {static_cast<int64_t>(shape->dimensions().size()) - 1});
    }
    context->SetOutput(0, is_relu_ ? xla::Max(c, xla::ZerosLike(c)) : c);
  }

 private:
  std::string equation_;
  bool is_relu_;
};

REGISTER_KERNEL_BUILDER(Name("Splitop>Einsum").Device(tensorflow::DEVICE_CPU_XLA_JIT),
                        EinsumXlaKernel);
REGISTER_KERNEL_BUILDER(Name("Splitop>Einsum").Device(tensorflow::DEVICE_GPU_XLA_JIT),
                        EinsumXlaKernel);

}  // namespace
}  // namespace splitop
