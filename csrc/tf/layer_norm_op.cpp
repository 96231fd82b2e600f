// The ops Splitop>LayerNorm and Splitop>LayerNormGrad, and their CPU kernels.
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/layer_norm.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/cpu_call.h"
#include "tf/names.h"
#include "tf/op_kernel.h"
#include "tf/shapes.h"

namespace splitop {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("Splitop>LayerNorm")
    .Input("x: T")
    .Input("gamma: T")
    .Input("beta: T")
    .Input("epsilon: T")
    .Output("y: T")
    .Attr("T: {float, double}")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle x, gamma, beta, epsilon;
      TF_RETURN_IF_ERROR(context->WithRankAtLeast(context->input(0), 1, &x));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 1, &gamma));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(2), 1, &beta));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(3), 0, &epsilon));
      context->set_output(0, x);
      return absl::OkStatus();
    })
    .Doc(R"doc(
Layer normalization over the last dimension.

x: Of rank 1 at least.
gamma: What the normalized rows are multiplied by: a vector.
beta: What is added then.
epsilon: What is added to the variance: a scalar.
y: (x - mean) / sqrt(variance + epsilon) * gamma + beta.
T: The type of all.
)doc");

REGISTER_OP("Splitop>LayerNormGrad")
    .Input("dy: T")
    .Input("x: T")
    .Input("gamma: T")
    .Input("epsilon: T")
    .Output("dx: T")
    .Output("dgamma: T")
    .Output("dbeta: T")
    .Attr("T: {float, double}")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle x, gamma, epsilon;
      TF_RETURN_IF_ERROR(context->WithRankAtLeast(context->input(1), 1, &x));
      TF_RETURN_IF_ERROR(context->Merge(context->input(0), x, &x));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(2), 1, &gamma));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(3), 0, &epsilon));
      context->set_output(0, x);
      context->set_output(1, gamma);
      context->set_output(2, gamma);
      return absl::OkStatus();
    })
    .Doc(R"doc(
The gradient of Splitop>LayerNorm.

The result is the same, bit for bit, from run to run, whatever the number of threads.

dy: The gradient of y, of its shape.
x: As Splitop>LayerNorm has it.
gamma: Likewise.
epsilon: Likewise.
dx: The gradient of x.
dgamma: That of gamma.
dbeta: That of beta.
T: The type of all.
)doc");

double ScalarValue(const Tensor& scalar) {
  return scalar.dtype() == tensorflow::DT_FLOAT ? *static_cast<const float*>(scalar.data())
                                                : *static_cast<const double*>(scalar.data());
}

// vectors: gamma, and what else has its shape.
absl::Status CheckShapes(const OpKernelContext& context, const TensorShape& x,
                         std::initializer_list<const Tensor*> vectors, const Tensor& epsilon) {
  const auto refused = [&](absl::string_view received) {
    return absl::InvalidArgumentError(absl::StrCat(
        "splitop: ", context.op_kernel().type_string(), ": \"", context.op_kernel().name(),
        "\": x must be of shape [..., width], width at least 1, gamma and beta of "
        "[width], epsilon a scalar. Received: ",
        received, "."));
  };
  if (x.dims() < 1 || x.dim_size(x.dims() - 1) < 1) {
    return refused(absl::StrCat("x of ", FormatShape(x)));
  }
  const TensorShape row({x.dim_size(x.dims() - 1)});
  for (const Tensor* vector : vectors) {
    if (vector->shape() != row) {
      return refused(
          absl::StrCat("x of ", FormatShape(x), ", a vector of ", FormatShape(vector->shape())));
    }
  }
  if (epsilon.dims() == 0) return absl::OkStatus();
  return refused(absl::StrCat("epsilon of ", FormatShape(epsilon.shape())));
}

class LayerNormCpuKernel final : public NoThrowKernel {
 public:
  using NoThrowKernel::NoThrowKernel;

 private:
  using Call = CpuCallWithoutScratch<splitop_layer_norm, splitop_cpu_layer_norm>;

  absl::Status Execute(OpKernelContext* context) const override {
    const Tensor &x = context->input(0), &gamma = context->input(1), &beta = context->input(2);
    const Tensor& epsilon = context->input(3);
    TF_RETURN_IF_ERROR(CheckShapes(*context, x.shape(), {&gamma, &beta}, epsilon));
    Tensor* y = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(0, x.shape(), &y));
    splitop_layer_norm norm = {};
    norm.dtype = ToSplitopDtype(x.dtype());
    norm.width = gamma.NumElements();
    norm.rows = x.NumElements() / norm.width;
    norm.epsilon = ScalarValue(epsilon);
    norm.x = x.data();
    norm.gamma = gamma.data();
    norm.beta = beta.data();
    norm.y = y->data();
    return Call(context).Run(norm, nullptr, 0);
  }
};

class LayerNormGradCpuKernel final : public NoThrowKernel {
 public:
  using NoThrowKernel::NoThrowKernel;

 private:
  using Call = CpuCall<splitop_layer_norm_gradient, splitop_cpu_layer_norm_gradient_scratch_bytes,
                       splitop_cpu_layer_norm_gradient>;

  absl::Status Execute(OpKernelContext* context) const override {
    const Tensor &dy = context->input(0), &x = context->input(1), &gamma = context->input(2);
    const Tensor& epsilon = context->input(3);
    TF_RETURN_IF_ERROR(CheckShapes(*context, x.shape(), {&gamma}, epsilon));
    if (dy.shape() != x.shape()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "splitop: Splitop>LayerNormGrad: \"", name(), "\": dy must have the shape of x, ",
          FormatShape(x.shape()), ". Received: ", FormatShape(dy.shape()), "."));
    }
    Tensor *dx = nullptr, *dgamma = nullptr, *dbeta = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(0, x.shape(), &dx));
    TF_RETURN_IF_ERROR(context->allocate_output(1, gamma.shape(), &dgamma));
    TF_RETURN_IF_ERROR(context->allocate_output(2, gamma.shape(), &dbeta));
    splitop_layer_norm_gradient gradient = {};
    gradient.dtype = ToSplitopDtype(x.dtype());
    gradient.width = gamma.NumElements();
    gradient.rows = x.NumElements() / gradient.width;
    gradient.epsilon = ScalarValue(epsilon);
    gradient.dy = dy.data();
    gradient.x = x.data();
    gradient.gamma = gamma.data();
    gradient.dx = dx->data();
    gradient.dgamma = dgamma->data();
    gradient.dbeta = dbeta->data();
    return RunWithScratch(Call(context), gradient);
  }
};

#define SPLITOP_REGISTER_CPU(type)                                                            \
  REGISTER_KERNEL_BUILDER(                                                                    \
      Name("Splitop>LayerNorm").Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"),     \
      LayerNormCpuKernel)                                                                     \
  REGISTER_KERNEL_BUILDER(                                                                    \
      Name("Splitop>LayerNormGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), \
      LayerNormGradCpuKernel)
SPLITOP_REGISTER_CPU(float);
SPLITOP_REGISTER_CPU(double);
#undef SPLITOP_REGISTER_CPU

}  // namespace
}  // namespace splitop
