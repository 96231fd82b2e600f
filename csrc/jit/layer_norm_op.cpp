// Splitop>LayerNorm and Splitop>LayerNormGrad inside XLA, which fuses what they are made of.
//
// Plans for XLA leave layer normalization to TensorFlow; this is for a step that was traced outside
// of it.
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "xla/hlo/builder/lib/arithmetic.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/shape.h"

namespace splitop {
namespace {

// Tensors of one shape, [..., width], with what is known of each row or each column spread over it.
class Rows {
 public:
  Rows(xla::XlaBuilder* builder, const xla::Shape& shape)
      : builder_(builder),
        type_(shape.element_type()),
        dims_(shape.dimensions().begin(), shape.dimensions().end()),
        leading_(dims_.size() - 1) {
    std::iota(leading_.begin(), leading_.end(), 0);
  }

  xla::XlaOp OverRows(xla::XlaOp vector) const {
    return xla::BroadcastInDim(vector, dims_, {static_cast<int64_t>(dims_.size()) - 1});
  }
  xla::XlaOp RowMeans(xla::XlaOp tensor) const {
    const xla::XlaOp sums = Sum(tensor, {static_cast<int64_t>(dims_.size()) - 1});
    const auto count = static_cast<double>(dims_.back());
    return xla::BroadcastInDim(sums / xla::ScalarLike(sums, count), dims_, leading_);
  }
  xla::XlaOp SumOfRows(xla::XlaOp tensor) const { return Sum(tensor, leading_); }

  // The normalized rows, and one over the deviations.
  std::pair<xla::XlaOp, xla::XlaOp> Normalized(xla::XlaOp x, xla::XlaOp epsilon) const {
    const xla::XlaOp off = x - RowMeans(x);
    const xla::XlaOp scale = xla::Rsqrt(RowMeans(off * off) + epsilon);
    return {off * scale, scale};
  }

 private:
  xla::XlaOp Sum(xla::XlaOp tensor, const std::vector<int64_t>& over) const {
    return xla::Reduce(tensor, xla::Zero(builder_, type_),
                       xla::CreateScalarAddComputation(type_, builder_), over);
  }

  xla::XlaBuilder* const builder_;
  const xla::PrimitiveType type_;
  const std::vector<int64_t> dims_;
  std::vector<int64_t> leading_;
};

class LayerNormXlaKernel final : public tensorflow::XlaOpKernel {
 public:
  using XlaOpKernel::XlaOpKernel;

  void Compile(tensorflow::XlaOpKernelContext* context) override {
    const absl::StatusOr<xla::Shape> shape = context->InputXlaShape(0);
    OP_REQUIRES_OK(context, shape.status());
    const Rows rows(context->builder(), *shape);
    const xla::XlaOp normalized = rows.Normalized(context->Input(0), context->Input(3)).first;
    context->SetOutput(
        0, normalized * rows.OverRows(context->Input(1)) + rows.OverRows(context->Input(2)));
  }
};

class LayerNormGradXlaKernel final : public tensorflow::XlaOpKernel {
 public:
  using XlaOpKernel::XlaOpKernel;

  void Compile(tensorflow::XlaOpKernelContext* context) override {
    const absl::StatusOr<xla::Shape> shape = context->InputXlaShape(1);
    OP_REQUIRES_OK(context, shape.status());
    const Rows rows(context->builder(), *shape);
    const xla::XlaOp dy = context->Input(0);
    const auto [normalized, scale] = rows.Normalized(context->Input(1), context->Input(3));
    const xla::XlaOp g = dy * rows.OverRows(context->Input(2));
    const xla::XlaOp along_row = rows.RowMeans(g * normalized);
    context->SetOutput(0, scale * (g - rows.RowMeans(g) - normalized * along_row));
    context->SetOutput(1, rows.SumOfRows(dy * normalized));
    context->SetOutput(2, rows.SumOfRows(dy));
  }
};

REGISTER_KERNEL_BUILDER(Name("Splitop>LayerNorm").Device(tensorflow::DEVICE_CPU_XLA_JIT),
                        LayerNormXlaKernel);
REGISTER_KERNEL_BUILDER(Name("Splitop>LayerNorm").Device(tensorflow::DEVICE_GPU_XLA_JIT),
                        LayerNormXlaKernel);
REGISTER_KERNEL_BUILDER(Name("Splitop>LayerNormGrad").Device(tensorflow::DEVICE_CPU_XLA_JIT),
                        LayerNormGradXlaKernel);
REGISTER_KERNEL_BUILDER(Name("Splitop>LayerNormGrad").Device(tensorflow::DEVICE_GPU_XLA_JIT),
                        LayerNormGradXlaKernel);

}  // namespace
}  // namespace splitop
