// The ops Splitop>Conv2D, Splitop>Conv2DFilterGrad and Splitop>Conv2DInputGrad, and their CPU
// kernels.
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/convolution.h"
#include "tensorflow/core/framework/common_shape_fns.h"
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

// Inputs (dz, x, filter) of both gradients.
constexpr int kGradient = 0, kImages = 1, kFilter = 2;

absl::Status MergeRanks(InferenceContext* context, ShapeHandle* x, ShapeHandle* filter) {
  ShapeHandle dz;
  TF_RETURN_IF_ERROR(context->WithRank(context->input(kGradient), 4, &dz));
  TF_RETURN_IF_ERROR(context->WithRank(context->input(kImages), 4, x));
  return context->WithRank(context->input(kFilter), 4, filter);
}

#define SPLITOP_CONVOLUTION_ATTRS                     \
  Attr("T: {float, double}")                          \
      .Attr("strides: list(int)")                     \
      .Attr("padding: {'SAME', 'VALID', 'EXPLICIT'}") \
      .Attr("explicit_paddings: list(int) = []")      \
      .Attr("dilations: list(int) = [1, 1, 1, 1]")    \
      .Attr("data_format: {'NHWC'} = 'NHWC'")

REGISTER_OP("Splitop>Conv2D")
    .Input("x: T")
    .Input("filter: T")
    .Input("biases: num_biases * T")
    .Output("y: T")
    .Attr("num_biases: int >= 0")
    .Attr("activation: {'linear', 'relu'} = 'linear'")
    .SPLITOP_CONVOLUTION_ATTRS
    .SetShapeFn(tensorflow::shape_inference::Conv2DShapeWithExplicitPadding)
    .Doc(R"doc(
A convolution, what is added to each of its channels, and an activation.

x: [batch, rows, columns, channels].
filter: [rows, columns, channels, filters].
biases: Nothing, or a vector with an element for each filter.
y: act(z + bias), where z is TensorFlow's Conv2D of x and the filter with the same attributes.
T: The type of all.
num_biases: 0 or 1.
activation: act.
strides: As of TensorFlow's Conv2D.
padding: Likewise.
explicit_paddings: Likewise.
dilations: Likewise.
data_format: Likewise.
)doc");

REGISTER_OP("Splitop>Conv2DFilterGrad")
    .Input("dz: T")
    .Input("x: T")
    .Input("filter: T")
    .Output("dfilter: T")
    .Output("dbias: T")
    .SPLITOP_CONVOLUTION_ATTRS
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle x, filter;
      TF_RETURN_IF_ERROR(MergeRanks(context, &x, &filter));
      context->set_output(0, filter);
      context->set_output(1, context->Vector(context->Dim(filter, 3)));
      return absl::OkStatus();
    })
    .Doc(R"doc(
The gradients of the filter and the bias of a convolution.

The result is the same, bit for bit, from run to run, whatever the number of threads.

dz: The gradient of z of Splitop>Conv2D, of its shape.
x: As Splitop>Conv2D has it.
filter: Likewise; only its shape is read.
dfilter: The gradient of the filter.
dbias: That of the bias, which there need not be.
T: The type of all.
strides: As of TensorFlow's Conv2D.
padding: Likewise.
explicit_paddings: Likewise.
dilations: Likewise.
data_format: Likewise.
)doc");

REGISTER_OP("Splitop>Conv2DInputGrad")
    .Input("dz: T")
    .Input("x: T")
    .Input("filter: T")
    .Output("dx: T")
    .SPLITOP_CONVOLUTION_ATTRS
    .SetShapeFn([](InferenceContext* context) {
      ShapeHandle x, filter;
      TF_RETURN_IF_ERROR(MergeRanks(context, &x, &filter));
      context->set_output(0, x);
      return absl::OkStatus();
    })
    .Doc(R"doc(
The gradient of the input of a convolution whose strides are 1.

dz: The gradient of z of Splitop>Conv2D, of its shape.
x: As Splitop>Conv2D has it; only its shape is read.
filter: As Splitop>Conv2D has it.
dx: The gradient of x.
T: The type of all.
strides: As of TensorFlow's Conv2D.
padding: Likewise.
explicit_paddings: Likewise.
dilations: Likewise.
data_format: Likewise.
)doc");
#undef SPLITOP_CONVOLUTION_ATTRS

// What all three have in common.
class ConvolutionKernel : public ImageOpKernel {
 public:
  explicit ConvolutionKernel(OpKernelConstruction* context) : ImageOpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("strides", &strides_));
    OP_REQUIRES_OK(context, context->GetAttr("dilations", &dilations_));
    OP_REQUIRES_OK(context, context->GetAttr("padding", &padding_));
    OP_REQUIRES_OK(context, context->GetAttr("explicit_paddings", &paddings_));
    OP_REQUIRES(context, AreOfImages(strides_) && AreOfImages(dilations_),
                Refused("strides and dilations must be of the form [1, rows, columns, 1], each at "
                        "least 1",
                        absl::StrCat(FormatDims(strides_), " and ", FormatDims(dilations_))));
    const bool is_explicit = padding_ == tensorflow::Padding::EXPLICIT;
    OP_REQUIRES(context, ArePaddings(is_explicit),
                Refused("explicit_paddings must be 8 numbers, at least 0, those of the batch and "
                        "the channels 0, with EXPLICIT padding, and none without",
                        FormatDims(paddings_)));
  }

 protected:
  absl::Status Shapes(const Tensor& x, const Tensor& filter, splitop_image_shapes* shapes) const {
    const TensorShape &of_x = x.shape(), &of_filter = filter.shape();
    if (of_x.dims() != 4 || of_filter.dims() != 4 || of_x.dim_size(3) != of_filter.dim_size(2) ||
        of_filter.num_elements() < 1) {
      return Refused(
          "x must be of shape [batch, rows, columns, channels], filter of [rows, columns, "
          "channels, filters], the latter without a 0",
          absl::StrCat("x of ", FormatShape(of_x), ", filter of ", FormatShape(of_filter)));
    }
    shapes->dtype = ToSplitopDtype(x.dtype());
    shapes->batch = of_x.dim_size(0);
    shapes->channels = of_filter.dim_size(2);
    shapes->filters = of_filter.dim_size(3);
    TF_RETURN_IF_ERROR(Window(1, of_x.dim_size(1), of_filter.dim_size(0), &shapes->rows));
    return Window(2, of_x.dim_size(2), of_filter.dim_size(1), &shapes->columns);
  }

  // Those of a gradient's inputs.
  absl::Status GradientShapes(OpKernelContext* context, splitop_image_shapes* shapes) const {
    TF_RETURN_IF_ERROR(Shapes(context->input(kImages), context->input(kFilter), shapes));
    const TensorShape expected = OutputShape(*shapes),
                      &received = context->input(kGradient).shape();
    if (received == expected) return absl::OkStatus();
    return Refused(absl::StrCat("dz must be of shape ", FormatShape(expected)),
                   FormatShape(received));
  }

  static TensorShape OutputShape(const splitop_image_shapes& shapes) {
    return TensorShape({shapes.batch, shapes.rows.output, shapes.columns.output, shapes.filters});
  }

 private:
  bool ArePaddings(bool is_explicit) const {
    if (!is_explicit) return paddings_.empty();
    if (paddings_.size() != 8) return false;
    for (int i = 0; i < 8; ++i) {
      const bool may_be_set = i >= 2 && i < 6;
      if (paddings_[i] < 0 || (paddings_[i] > 0 && !may_be_set)) return false;
    }
    return true;
  }

  absl::Status Window(int dim, int64_t input, int64_t filter, splitop_window* window) const {
    window->input = input;
    window->filter = filter;
    window->stride = strides_[dim];
    window->dilation = dilations_[dim];
    int64_t after = 0;
    if (!paddings_.empty()) {
      window->before = paddings_[2 * dim];
      after = paddings_[2 * dim + 1];
    }
    return tensorflow::GetWindowedOutputSizeVerbose(input, filter, window->dilation, window->stride,
                                                    padding_, &window->output, &window->before,
                                                    &after);
  }

  std::vector<int64_t> strides_, dilations_, paddings_;
  tensorflow::Padding padding_;
};

class Conv2DCpuKernel final : public ConvolutionKernel {
 public:
  explicit Conv2DCpuKernel(OpKernelConstruction* context) : ConvolutionKernel(context) {
    std::string activation;
    OP_REQUIRES_OK(context, context->GetAttr("activation", &activation));
    activation_ = activation == "relu" ? SPLITOP_RELU : SPLITOP_LINEAR;
  }

 private:
  using Call =
      CpuCall<splitop_convolution, splitop_cpu_convolution_scratch_bytes, splitop_cpu_convolution>;

  absl::Status Execute(OpKernelContext* context) const override {
    const Tensor &x = context->input(0), &filter = context->input(1);
    splitop_convolution convolution = {};
    TF_RETURN_IF_ERROR(Shapes(x, filter, &convolution.shapes));
    if (context->num_inputs() > 3)
      return Refused("there may be one bias", absl::StrCat(context->num_inputs() - 2));
    if (context->num_inputs() == 3) {
      const Tensor& bias = context->input(2);
      if (bias.shape() != TensorShape({convolution.shapes.filters})) {
        return Refused(absl::StrCat("bias must be of shape [", convolution.shapes.filters, "]"),
                       FormatShape(bias.shape()));
      }
      convolution.bias = bias.data();
    }
    Tensor* y = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(0, OutputShape(convolution.shapes), &y));
    convolution.x = x.data();
    convolution.filter = filter.data();
    convolution.activation = activation_;
    convolution.y = y->data();
    return RunWithScratch(Call(context), convolution);
  }

  splitop_activation activation_;
};

class Conv2DFilterGradCpuKernel final : public ConvolutionKernel {
 public:
  using ConvolutionKernel::ConvolutionKernel;

 private:
  using Call = CpuCall<splitop_filter_gradient, splitop_cpu_filter_gradient_scratch_bytes,
                       splitop_cpu_filter_gradient>;

  absl::Status Execute(OpKernelContext* context) const override {
    const Tensor &dz = context->input(kGradient), &x = context->input(kImages);
    const TensorShape& shape = context->input(kFilter).shape();
    splitop_filter_gradient gradient = {};
    TF_RETURN_IF_ERROR(GradientShapes(context, &gradient.shapes));
    Tensor *dfilter = nullptr, *dbias = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(0, shape, &dfilter));
    TF_RETURN_IF_ERROR(context->allocate_output(1, TensorShape({shape.dim_size(3)}), &dbias));
    gradient.x = x.data();
    gradient.dz = dz.data();
    gradient.dfilter = dfilter->data();
    gradient.dbias = dbias->data();
    return RunWithScratch(Call(context), gradient);
  }
};

class Conv2DInputGradCpuKernel final : public ConvolutionKernel {
 public:
  using ConvolutionKernel::ConvolutionKernel;

 private:
  using Call = CpuCall<splitop_image_gradient, splitop_cpu_image_gradient_scratch_bytes,
                       splitop_cpu_image_gradient>;

  absl::Status Execute(OpKernelContext* context) const override {
    const Tensor &dz = context->input(kGradient), &filter = context->input(kFilter);
    const Tensor& x = context->input(kImages);
    splitop_image_gradient gradient = {};
    TF_RETURN_IF_ERROR(GradientShapes(context, &gradient.shapes));
    const int64_t down = gradient.shapes.rows.stride, across = gradient.shapes.columns.stride;
    if (down > 1 || across > 1) {
      return Refused("strides must be 1", FormatDims(std::vector<int64_t>{1, down, across, 1}));
    }
    Tensor* dx = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(0, x.shape(), &dx));
    gradient.filter = filter.data();
    gradient.dz = dz.data();
    gradient.dx = dx->data();
    return RunWithScratch(Call(context), gradient);
  }
};

#define SPLITOP_REGISTER_CPU(type)                                                               \
  REGISTER_KERNEL_BUILDER(                                                                       \
      Name("Splitop>Conv2D").Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"),           \
      Conv2DCpuKernel)                                                                           \
  REGISTER_KERNEL_BUILDER(                                                                       \
      Name("Splitop>Conv2DFilterGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), \
      Conv2DFilterGradCpuKernel)                                                                 \
  REGISTER_KERNEL_BUILDER(                                                                       \
      Name("Splitop>Conv2DInputGrad").Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"),  \
      Conv2DInputGradCpuKernel)
SPLITOP_REGISTER_CPU(float);
SPLITOP_REGISTER_CPU(double);
#undef SPLITOP_REGISTER_CPU

}  // namespace
}  // namespace splitop
