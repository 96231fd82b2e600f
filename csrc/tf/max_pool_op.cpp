// The op Splitop>MaxPoolGrad, and its CPU kernel.
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/max_pool.h"
#include "tensorflow/core/framework/kernel_shape_util.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/util/padding.h"
#include "tf/cpu_call.h"
#include "tf/image_op.h"
#include "tf/names.h"
#include "tf/op_kernel.h"
#include "tf/shapes.h"

namespace splitop {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("Splitop>MaxPoolGrad")
    .Input("x: T")
    .Input("y: T")
    .Input("dy: T")
    .Output("dz: T")
    .Attr("T: {float, double}")
    .Attr("ksize: list(int)")
    .Attr("strides: list(int)")
    .Attr("padding: {'SAME', 'VALID'}")
    .Attr("activation: {'linear', 'relu'} = 'linear'")
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle x, y;
      TF_RETURN_IF_ERROR(context->WithRank(context->input(0), 4, &x));
      TF_RETURN_IF_ERROR(context->WithRank(context->input(1), 4, &y));
      TF_RETURN_IF_ERROR(context->Merge(context->input(2), y, &y));
      context->set_output(0, x);
      return absl::OkStatus();
    })
    .Doc(R"doc(
The gradient of TensorFlow's MaxPool of images, [batch, rows, columns, channels], and of an
activation before it.

Of elements that are equally large the first one has it.

x: The images, act(z).
y: MaxPool of x with the same attributes; only the gradient of this op reads it.
dy: The gradient of y, of its shape.
dz: The gradient of z.
T: The type of all.
ksize: As of TensorFlow's MaxPool: [1, rows, columns, 1].
strides: Likewise.
padding: Likewise.
activation: act.
)doc");

class MaxPoolGradCpuKernel final : public ImageOpKernel {
 public:
  explicit MaxPoolGradCpuKernel(OpKernelConstruction* context) : ImageOpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("ksize", &ksize_));
    OP_REQUIRES_OK(context, context->GetAttr("strides", &strides_));
    OP_REQUIRES_OK(context, context->GetAttr("padding", &padding_));
    OP_REQUIRES(context, AreOfImages(ksize_) && AreOfImages(strides_),
                Refused("ksize and strides must be of the form [1, rows, columns, 1], each at "
                        "least 1",
                        absl::StrCat(FormatDims(ksize_), " and ", FormatDims(strides_))));
    OP_REQUIRES(context, ksize_[1] <= INT32_MAX / ksize_[2],
                Refused("ksize must be of at most 2^31 - 1 elements", FormatDims(ksize_)));
    std::string activation;
    OP_REQUIRES_OK(context, context->GetAttr("activation", &activation));
    activation_ = activation == "relu" ? SPLITOP_RELU : SPLITOP_LINEAR;
  }

 private:
  using Call = CpuCallWithoutScratch<splitop_max_pool_gradient, splitop_cpu_max_pool_gradient>;

  absl::Status Execute(OpKernelContext* context) const override {
    const Tensor &x = context->input(0), &dy = context->input(2);
    if (x.dims() != 4 || x.dim_size(3) < 1) {
      return Refused("x must be of shape [batch, rows, columns, channels], the last at least 1",
                     FormatShape(x.shape()));
    }
    splitop_max_pool_gradient gradient = {};
    gradient.dtype = ToSplitopDtype(x.dtype());
    gradient.batch = x.dim_size(0);
    gradient.channels = x.dim_size(3);
    TF_RETURN_IF_ERROR(Window(1, x.dim_size(1), &gradient.rows));
    TF_RETURN_IF_ERROR(Window(2, x.dim_size(2), &gradient.columns));
    const TensorShape expected(
        {gradient.batch, gradient.rows.output, gradient.columns.output, gradient.channels});
    if (dy.shape() != expected) {
      return Refused(absl::StrCat("dy must be of shape ", FormatShape(expected)),
                     FormatShape(dy.shape()));
    }
    Tensor* dz = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(0, x.shape(), &dz));
    gradient.x = x.data();
    gradient.activation = activation_;
    gradient.dy = dy.data();
    gradient.dz = dz->data();
    return Call(context).Run(gradient, nullptr, 0);
  }

  absl::Status Window(int dim, int64_t input, splitop_window* window) const {
    window->input = input;
    window->filter = ksize_[dim];
    window->stride = strides_[dim];
    window->dilation = 1;
    int64_t after = 0;
    return tensorflow::GetWindowedOutputSizeVerbose(input, window->filter, /*dilation_rate=*/1,
                                                    window->stride, padding_, &window->output,
                                                    &window->before, &after);
  }

  std::vector<int64_t> ksize_, strides_;
  tensorflow::Padding padding_;
  splitop_activation activation_;
};

#define SPLITOP_REGISTER_CPU(type)                                                          \
  REGISTER_KERNEL_BUILDER(                                                                  \
      Name("Splitop>MaxPoolGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), \
      MaxPoolGradCpuKernel)
SPLITOP_REGISTER_CPU(float);
SPLITOP_REGISTER_CPU(double);
#undef SPLITOP_REGISTER_CPU

}  // namespace
}  // namespace splitop
