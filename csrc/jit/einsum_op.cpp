// Splitop>Einsum inside XLA: XLA's own product, which it fuses with what is around it.
//
// Plans for XLA leave the product to TensorFlow; this is for a step that was traced outside of it.
#include <string>

#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "xla/hlo/builder/lib/matrix.h"

namespace splitop {
namespace {

class EinsumXlaKernel final : public tensorflow::XlaOpKernel {
 public:
  explicit EinsumXlaKernel(tensorflow::OpKernelConstruction* context) : XlaOpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("equation", &equation_));
  }

  void Compile(tensorflow::XlaOpKernelContext* context) override {
    context->SetOutput(0, xla::Einsum(context->Input(0), context->Input(1), equation_,
                                      xla::PrecisionConfig::DEFAULT));
  }

 private:
  std::string equation_;
};

REGISTER_KERNEL_BUILDER(Name("Splitop>Einsum").Device(tensorflow::DEVICE_CPU_XLA_JIT),
                        EinsumXlaKernel);
REGISTER_KERNEL_BUILDER(Name("Splitop>Einsum").Device(tensorflow::DEVICE_GPU_XLA_JIT),
                        EinsumXlaKernel);

}  // namespace
}  // namespace splitop
