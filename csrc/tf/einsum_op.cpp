// The op Splitop>Einsum, and its CPU kernel.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "splitop/batched_product.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/platform/errors.h"
#include "tf/cpu_call.h"
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

// An equation as of tf.einsum: labels of dimensions, each at most once in a term. Those in all
// three terms are of the batch; of each other kind there is one. Or there is no batch: any number
// of dimensions of rows, by a matrix.
struct Equation {
  std::string a, b, c;
  std::string rows;
  char col, depth;

  absl::Status Parse(const std::string& text) {
    const std::vector<std::string> sides = absl::StrSplit(text, "->");
    const std::vector<std::string> factors = absl::StrSplit(sides[0], ',');
    if (sides.size() != 2 || factors.size() != 2) return Refused(text);
    a = factors[0];
    b = factors[1];
    c = sides[1];
    std::string cols, depths;
    rows.clear();
    for (const char label : a) {
      if (!Has(c, label)) {
        depths += label;
      } else if (!Has(b, label)) {
        rows += label;
      }
    }
    for (const char label : b) {
      if (!Has(a, label)) cols += label;
    }
    const bool is_layer =
        !rows.empty() && a == rows + depths && b == depths + cols && c == rows + cols;
    const bool is_batch = rows.size() == 1 && c.size() == a.size() && c.size() == b.size();
    if (!(is_layer || is_batch) || cols.size() != 1 || depths.size() != 1 || !AllOnce(a) ||
        !AllOnce(b) || !AllOnce(c) || !Has(b, depths[0]) || c.back() != cols[0]) {
      return Refused(text);
    }
    for (const char label : c) {
      if (!Has(a, label) && !Has(b, label)) return Refused(text);
    }
    col = cols[0];
    depth = depths[0];
    return absl::OkStatus();
  }

  // Of those of `c`.
  bool IsOfBatch(char label) const { return !Has(rows, label) && label != col; }

  static bool Has(const std::string& labels, char label) {
    return labels.find(label) != std::string::npos;
  }

 private:
  static bool AllOnce(const std::string& labels) {
    return std::all_of(labels.begin(), labels.end(), [&](char label) {
      return ((label >= 'a' && label <= 'z') || (label >= 'A' && label <= 'Z')) &&
             std::count(labels.begin(), labels.end(), label) == 1;
    });
  }

  static absl::Status Refused(const std::string& text) {
    return absl::InvalidArgumentError(absl::StrCat(
        "splitop: Splitop>Einsum: equation must be of one product of matrices for each member of a "
        "batch, the last label of its result one of the second factor's, as "
        "\"acbe,aecd->acbd\", or of rows by a matrix, as \"abc,cd->abd\". Received: \"",
        text, "\"."));
  }
};

absl::Status EinsumShape(InferenceContext* context) {
  std::string text;
  TF_RETURN_IF_ERROR(context->GetAttr("equation", &text));
  Equation equation;
  TF_RETURN_IF_ERROR(equation.Parse(text));
  tensorflow::shape_inference::ShapeHandle a, b;
  TF_RETURN_IF_ERROR(context->WithRank(context->input(0), equation.a.size(), &a));
  TF_RETURN_IF_ERROR(context->WithRank(context->input(1), equation.b.size(), &b));
  std::vector<tensorflow::shape_inference::DimensionHandle> dims;
  for (const char label : equation.c) {
    const auto in_a = equation.a.find(label), in_b = equation.b.find(label);
    dims.push_back(in_a != std::string::npos ? context->Dim(a, in_a) : context->Dim(b, in_b));
    if (in_a != std::string::npos && in_b != std::string::npos) {
      TF_RETURN_IF_ERROR(context->Merge(dims.back(), context->Dim(b, in_b), &dims.back()));
    }
  }
  if (context->num_inputs() > 2) {
    tensorflow::shape_inference::ShapeHandle bias;
    TF_RETURN_IF_ERROR(context->WithRank(context->input(2), 1, &bias));
    TF_RETURN_IF_ERROR(context->Merge(dims.back(), context->Dim(bias, 0), &dims.back()));
  }
  context->set_output(0, context->MakeShape(dims));
  return absl::OkStatus();
}

REGISTER_OP("Splitop>Einsum")
    .Input("a: T")
    .Input("b: T")
    .Input("biases: num_biases * T")
    .Output("c: T")
    .Attr("T: {float, double}")
    .Attr("num_biases: int >= 0 = 0")
    .Attr("equation: string")
    .Attr("activation: {'linear', 'relu'} = 'linear'")
    .SetShapeFn(EinsumShape)
    .Doc(R"doc(
tf.einsum of two tensors where that is one product of matrices for each member of a batch, or rows by
a matrix; what is added to each of its rows, and an activation.

The result is the same, bit for bit, from run to run, whatever the number of threads.

a: The first factor.
b: The second one. Nothing is broadcast.
biases: Nothing, or a vector with an element for each index of the last label of `c`.
c: act(product + bias).
T: The type of all.
num_biases: 0 or 1.
equation: As of tf.einsum, without an ellipsis. One label is of `a` and `c`, one of `b` and `c`, one
  of `a` and `b`, and all others are of all three. The last label of `c` is one of `b`. Or any number
  of labels are of `a` and `c`, and no label is of all: "abc,cd->abd".
activation: act.
)doc");

// A tensor, and how far apart the elements of its dimensions are.
class Labelled {
 public:
  Labelled(const std::string& labels, const TensorShape& shape) : labels_(labels), shape_(shape) {}

  // Those of a label that it has.
  int64_t extent(char label) const { return shape_.dim_size(static_cast<int>(At(label))); }
  int64_t stride(char label) const {
    int64_t stride = 1;
    for (size_t d = At(label) + 1; d < labels_.size(); ++d) {
      stride *= shape_.dim_size(static_cast<int>(d));
    }
    return stride;
  }

 private:
  size_t At(char label) const { return labels_.find(label); }

  const std::string& labels_;
  const TensorShape& shape_;
};

class EinsumCpuKernel final : public NoThrowKernel {
 public:
  explicit EinsumCpuKernel(OpKernelConstruction* context) : NoThrowKernel(context) {
    std::string text;
    OP_REQUIRES_OK(context, context->GetAttr("equation", &text));
    OP_REQUIRES_OK(context, equation_.Parse(text));
    std::string activation;
    OP_REQUIRES_OK(context, context->GetAttr("activation", &activation));
    activation_ = activation == "relu" ? SPLITOP_RELU : SPLITOP_LINEAR;
  }

 private:
  using Call = CpuCall<splitop_batched_product, splitop_cpu_batched_product_scratch_bytes,
                       splitop_cpu_batched_product>;

  absl::Status Execute(OpKernelContext* context) const override {
    const Tensor& a_tensor = context->input(0);
    const Tensor& b_tensor = context->input(1);
    TF_RETURN_IF_ERROR(CheckShapes(a_tensor.shape(), b_tensor.shape()));
    const void* bias = nullptr;
    TF_RETURN_IF_ERROR(ReadBias(context, b_tensor.shape(), &bias));
    const Labelled a(equation_.a, a_tensor.shape()), b(equation_.b, b_tensor.shape());
    TensorShape shape;
    for (const char label : equation_.c) {
      TF_RETURN_IF_ERROR(shape.AddDimWithStatus(
          Equation::Has(equation_.a, label) ? a.extent(label) : b.extent(label)));
    }
    Tensor* c_tensor = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(0, shape, &c_tensor));
    const Labelled c(equation_.c, shape);
    std::vector<int64_t> batch, a_batch, b_batch, c_batch;
    for (const char label : equation_.c) {
      if (!equation_.IsOfBatch(label)) continue;
      batch.push_back(c.extent(label));
      a_batch.push_back(a.stride(label));
      b_batch.push_back(b.stride(label));
      c_batch.push_back(c.stride(label));
    }
    splitop_batched_product product = {};
    product.dtype = ToSplitopDtype(a_tensor.dtype());
    product.num_batch_dims = static_cast<int32_t>(batch.size());
    product.batch = batch.data();
    product.a_batch = a_batch.data();
    product.b_batch = b_batch.data();
    product.c_batch = c_batch.data();
    product.rows = 1;
    for (const char label : equation_.rows) product.rows *= a.extent(label);
    product.cols = b.extent(equation_.col);
    product.depth = a.extent(equation_.depth);
    product.a = a_tensor.data();
    product.a_row = a.stride(equation_.rows.back());
    product.a_depth = a.stride(equation_.depth);
    product.b = b_tensor.data();
    product.b_depth = b.stride(equation_.depth);
    product.b_col = b.stride(equation_.col);
    product.bias = bias;
    product.activation = activation_;
    product.c = c_tensor->data();
    product.c_row = c.stride(equation_.rows.back());
    return RunWithScratch(Call(context), product);
  }

  absl::Status CheckShapes(const TensorShape& a, const TensorShape& b) const {
    bool fits = a.dims() == static_cast<int>(equation_.a.size()) &&
                b.dims() == static_cast<int>(equation_.b.size());
    for (size_t d = 0; fits && d < equation_.a.size(); ++d) {
      const auto other = equation_.b.find(equation_.a[d]);
      fits = other == std::string::npos ||
             a.dim_size(static_cast<int>(d)) == b.dim_size(static_cast<int>(other));
    }
    if (fits) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        "splitop: Splitop>Einsum: \"", name(), "\": the factors must have the dimensions \"",
        equation_.a, "\" and \"", equation_.b, "\", equal labels equal extents. Received: ",
        FormatShape(a), " and ", FormatShape(b), "."));
  }

  absl::Status ReadBias(OpKernelContext* context, const TensorShape& b, const void** bias) const {
    if (context->num_inputs() == 2) return absl::OkStatus();
    const int64_t cols = Labelled(equation_.b, b).extent(equation_.col);
    const Tensor& given = context->input(2);
    if (context->num_inputs() > 3 || given.shape() != TensorShape({cols})) {
      return absl::InvalidArgumentError(
          absl::StrCat("splitop: Splitop>Einsum: \"", name(), "\": biases may be one, of shape [",
                       cols, "]. Received: ", context->num_inputs() - 2, ", the first of shape ",
                       FormatShape(given.shape()), "."));
    }
    *bias = given.data();
    return absl::OkStatus();
  }

  Equation equation_;
  splitop_activation activation_;
};

#define SPLITOP_REGISTER_CPU(type)                                                     \
  REGISTER_KERNEL_BUILDER(                                                             \
      Name("Splitop>Einsum").Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), \
      EinsumCpuKernel)
SPLITOP_REGISTER_CPU(float);
SPLITOP_REGISTER_CPU(double);
#undef SPLITOP_REGISTER_CPU

}  // namespace
}  // namespace splitop
