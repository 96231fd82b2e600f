// What the XLA kernels of all ops have in common: an op becomes one custom call, which writes the
// variables where they are.
#ifndef SPLITOP_JIT_XLA_KERNEL_H_
#define SPLITOP_JIT_XLA_KERNEL_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "jit/node_attrs.h"
#include "jit/op.h"
#include "tensorflow/compiler/tf2xla/shape_util.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tensorflow/core/framework/types.h"
#include "tf/input_shapes.h"
#include "tf/resources.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/shape.h"
#include "xla/shape_util.h"
#include "xla/xla_data.pb.h"

namespace splitop {

// The arguments of the custom call: the op's inputs, with the value of a resource in its place.
class CallOperands {
 public:
  CallOperands(tensorflow::XlaOpKernelContext* context, const Resources& resources)
      : context_(context), resources_(resources) {}

  absl::Status Read() {
    for (int i = 0; i < context_->num_inputs(); ++i) {
      const int resource = i - resources_.first_input;
      const bool is_resource = resource >= 0 && resource < resources_.size();
      TF_RETURN_IF_ERROR(is_resource ? ReadResource(resource) : ReadTensor(i));
    }
    return CheckDistinct();
  }

  const std::vector<xla::XlaOp>& values() const { return values_; }
  const std::vector<xla::Shape>& xla_shapes() const { return xla_shapes_; }
  const InputShapes& shapes() const { return shapes_; }

 private:
  absl::Status ReadTensor(int input) {
    TF_ASSIGN_OR_RETURN(const xla::Shape shape, context_->InputXlaShape(input));
    if (shape.is_dynamic()) {
      return absl::UnimplementedError(
          absl::StrCat("splitop: SplitError: inside jit_compile=True an op needs sizes that are "
                       "known when XLA compiles it. Received: input ",
                       input, " of ", context_->op_kernel().type_string_view(), " of shape ",
                       shape.ToString(), "."));
    }
    Add(context_->Input(input), shape);
    return absl::OkStatus();
  }

  absl::Status ReadResource(int r) {
    const int input = resources_.Input(r);
    tensorflow::XlaResource* resource;
    TF_RETURN_IF_ERROR(context_->GetResourceInput(input, &resource));
    if (!resource->initialized()) {
      return absl::FailedPreconditionError(
          absl::StrCat("splitop: VariableListError: ", resources_.descriptions[r],
                       " has no value: it was never initialized, or was deleted. Received: a "
                       "variable without a value."));
    }
    TF_RETURN_IF_ERROR(resources_.CheckDtype(r, resource->type()));
    found_.push_back(resource);
    xla::XlaOp value;
    TF_RETURN_IF_ERROR(context_->ReadVariableInput(input, resource->type(), nullptr, &value));
    TF_ASSIGN_OR_RETURN(const xla::Shape shape, context_->builder()->GetShape(value));
    Add(value, shape);
    return absl::OkStatus();
  }

  void Add(xla::XlaOp value, const xla::Shape& shape) {
    values_.push_back(value);
    // Rows first, whatever the layout of what has made the tensor.
    xla_shapes_.push_back(
        xla::ShapeUtil::MakeShapeWithDescendingLayout(shape.element_type(), shape.dimensions()));
    shapes_.push_back(tensorflow::PartialTensorShape(shape.dimensions()));
  }

  absl::Status CheckDistinct() const {
    for (size_t second = 0; second < found_.size(); ++second) {
      for (size_t first = 0; first < second; ++first) {
        if (found_[first] == found_[second]) {
          return absl::InvalidArgumentError(absl::StrCat(
              "splitop: VariableListError: a variable can be updated only once. Received: ",
              resources_.descriptions[first], " and ", resources_.descriptions[second],
              " are the same variable."));
        }
      }
    }
    return absl::OkStatus();
  }

  tensorflow::XlaOpKernelContext* const context_;
  const Resources& resources_;
  std::vector<xla::XlaOp> values_;
  std::vector<xla::Shape> xla_shapes_;
  InputShapes shapes_;
  std::vector<const tensorflow::XlaResource*> found_;
};

template <typename Op>  // op.h
class XlaKernel : public tensorflow::XlaOpKernel {
 public:
  explicit XlaKernel(tensorflow::OpKernelConstruction* context)
      : XlaOpKernel(context), node_(NodeAttrs::ToText(def())) {
    OP_REQUIRES_OK(context, Op::ReadAttrs(context, &attrs_));
  }

  void Compile(tensorflow::XlaOpKernelContext* context) override {
    OP_REQUIRES_OK(context, Emit(context));
  }

 protected:
  const typename Op::Attrs& attrs() const { return attrs_; }

 private:
  using Alias = std::pair<xla::ShapeIndex, std::pair<int64_t, xla::ShapeIndex>>;

  absl::Status Emit(tensorflow::XlaOpKernelContext* context) const {
    const Resources& resources = Op::GetResources(attrs_);
    CallOperands operands(context, resources);
    TF_RETURN_IF_ERROR(operands.Read());
    OutputShapes outputs;
    TF_RETURN_IF_ERROR(Op::GetOutputs(attrs_, operands.shapes(), &outputs));

    std::vector<xla::Shape> results;
    for (const OutputShape& output : outputs) {
      xla::Shape shape;
      TF_RETURN_IF_ERROR(tensorflow::TensorShapeToXLAShape(output.dtype, output.shape, &shape));
      results.push_back(shape);
    }
    const auto num_outputs = static_cast<int>(results.size());
    std::vector<Alias> aliases;
    for (int r = 0; Op::kWrites && r < resources.size(); ++r) {
      const int input = resources.Input(r);
      Alias& alias = aliases.emplace_back();
      alias.first.push_back(num_outputs + r);
      alias.second.first = input;
      results.push_back(operands.xla_shapes()[input]);
    }
    const xla::XlaOp call = xla::CustomCallWithLayout(
        context->builder(), Op::kTarget, operands.values(), xla::ShapeUtil::MakeTupleShape(results),
        operands.xla_shapes(), absl::StrCat("{node = ", QuoteForMlir(node_), "}"),
        /*has_side_effect=*/false, aliases, /*literal=*/nullptr,
        xla::CustomCallSchedule::SCHEDULE_NONE, xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
    for (int o = 0; o < num_outputs; ++o) context->SetOutput(o, xla::GetTupleElement(call, o));
    for (int r = 0; Op::kWrites && r < resources.size(); ++r) {
      TF_RETURN_IF_ERROR(context->AssignVariable(resources.Input(r), resources.dtype,
                                                 xla::GetTupleElement(call, num_outputs + r)));
    }
    return absl::OkStatus();
  }

  const std::string node_;
  typename Op::Attrs attrs_;
};

}  // namespace splitop

#endif  // SPLITOP_JIT_XLA_KERNEL_H_
