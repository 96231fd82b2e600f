// The ops Splitop>Softmax and Splitop>SoftmaxGrad, and their CPU kernels.
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/softmax.h"
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
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("Splitop>Softmax")
    .Input("x: T")
    .Output("y: T")
    .Attr("T: {float, double}")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle x;
      TF_RETURN_IF_ERROR(context->WithRankAtLeast(context->input(0), 1, &x));
      context->set_output(0, x);
      return absl::OkStatus();
    })
    .Doc(R"doc(
Softmax over the last dimension.

The result is the same, bit for bit, from run to run, whatever the number of threads.

x: Of rank 1 at least.
y: exp(x) / sum(exp(x)), the sums over the last dimension.
T: The type of both.
)doc");

REGISTER_OP("Splitop>SoftmaxGrad")
    .Input("dy: T")
    .Input("y: T")
    .Output("dx: T")
    .Attr("T: {float, double}")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle y;
      TF_RETURN_IF_ERROR(context->WithRankAtLeast(context->input(1), 1, &y));
      TF_RETURN_IF_ERROR(context->Merge(context->input(0), y, &y));
      context->set_output(0, y);
      return absl::OkStatus();
    })
    .Doc(R"doc(
The gradient of softmax over the last dimension.

The result is the same, bit for bit, from run to run, whatever the number of threads.

dy: The gradient of y.
y: The softmax of x, of rank 1 at least.
dx: The gradient of x: (dy - sum(dy * y)) * y, the sums over the last dimension.
T: The type of all.
)doc");

// The last dimension, and how often it is there.
struct Rows {
  explicit Rows(const Tensor& tensor)
      : width(tensor.dim_size(tensor.dims() - 1)),
        count(width == 0 ? 0 : tensor.NumElements() / width) {}

  const int64_t width, count;
};

class SoftmaxCpuKernel final : public NoThrowKernel {
 public:
  using NoThrowKernel::NoThrowKernel;

 private:
  using Call = CpuCallWithoutScratch<splitop_softmax, splitop_cpu_softmax>;

  absl::Status Execute(OpKernelContext* context) const override {
    const Tensor& x = context->input(0);
    if (x.dims() < 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "splitop: Splitop>Softmax: \"", name(),
          "\": x must be of rank 1 at least. Received: shape ", FormatShape(x.shape()), "."));
    }
    Tensor* y = nullptr;
    TF_RETURN_IF_ERROR(context->forward_input_or_allocate_output({0}, 0, x.shape(), &y));
    const Rows rows(x);
    splitop_softmax softmax = {};
    softmax.dtype = ToSplitopDtype(x.dtype());
    softmax.width = rows.width;
    softmax.rows = rows.count;
    softmax.x = x.data();
    softmax.y = y->data();
    return Call(context).Run(softmax, nullptr, 0);
  }
};

class SoftmaxGradCpuKernel final : public NoThrowKernel {
 public:
  using NoThrowKernel::NoThrowKernel;

 private:
  using Call = CpuCallWithoutScratch<splitop_softmax_gradient, splitop_cpu_softmax_gradient>;

  absl::Status Execute(OpKernelContext* context) const override {
    const Tensor &dy = context->input(0), &y = context->input(1);
    if (y.dims() < 1 || dy.shape() != y.shape()) {
      return absl::InvalidArgumentError(
          absl::StrCat("splitop: Splitop>SoftmaxGrad: \"", name(),
                       "\": dy and y must be of the same shape, of rank 1 at least. Received: ",
                       FormatShape(dy.shape()), " and ", FormatShape(y.shape()), "."));
    }
    Tensor* dx = nullptr;
    TF_RETURN_IF_ERROR(context->forward_input_or_allocate_output({0}, 0, y.shape(), &dx));
    const Rows rows(y);
    splitop_softmax_gradient gradient = {};
    gradient.dtype = ToSplitopDtype(y.dtype());
    gradient.width = rows.width;
    gradient.rows = rows.count;
    gradient.dy = dy.data();
    gradient.y = y.data();
    gradient.dx = dx->data();
    return Call(context).Run(gradient, nullptr, 0);
  }
};

#define SPLITOP_REGISTER_CPU(Op, Kernel, type) \
  REGISTER_KERNEL_BUILDER(Name(Op).Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), Kernel)
SPLITOP_REGISTER_CPU("Splitop>Softmax", SoftmaxCpuKernel, float);
SPLITOP_REGISTER_CPU("Splitop>Softmax", SoftmaxCpuKernel, double);
SPLITOP_REGISTER_CPU("Splitop>SoftmaxGrad", SoftmaxGradCpuKernel, float);
SPLITOP_REGISTER_CPU("Splitop>SoftmaxGrad", SoftmaxGradCpuKernel, double);
#undef SPLITOP_REGISTER_CPU

}  // namespace
}  // namespace splitop
