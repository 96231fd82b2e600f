// The op Splitop>SoftmaxGrad, and its CPU kernel.
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
    splitop_softmax_gradient gradient = {};
    gradient.dtype = ToSplitopDtype(y.dtype());
    gradient.width = y.dim_size(y.dims() - 1);
    gradient.rows = gradient.width == 0 ? 0 : y.NumElements() / gradient.width;
    gradient.dy = dy.data();
    gradient.y = y.data();
    gradient.dx = dx->data();
    return Call(context).Run(gradient, nullptr, 0);
  }
};

#define SPLITOP_REGISTER_CPU(type)                                                          \
  REGISTER_KERNEL_BUILDER(                                                                  \
      Name("Splitop>SoftmaxGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), \
      SoftmaxGradCpuKernel)
SPLITOP_REGISTER_CPU(float);
SPLITOP_REGISTER_CPU(double);
#undef SPLITOP_REGISTER_CPU

}  // namespace
}  // namespace splitop
