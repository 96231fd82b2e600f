// The op Splitop>TableLookup, and its CPU kernel.
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/platform/mutex.h"
#include "tf/op_kernel.h"
#include "tf/shapes.h"
#include "tf/table_lookup_arguments.h"

namespace splitop {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::Var;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

absl::Status TableLookupShape(InferenceContext* context) {
  const auto* const known = context->input_handle_shapes_and_types(0);
  ShapeHandle row = context->UnknownShape();
  if (known != nullptr && !known->empty()) {
    ShapeHandle table;
    TF_RETURN_IF_ERROR(context->WithRankAtLeast((*known)[0].shape, 1, &table));
    TF_RETURN_IF_ERROR(context->Subshape(table, 1, &row));
  }
  ShapeHandle rows;
  TF_RETURN_IF_ERROR(context->Concatenate(context->input(1), row, &rows));
  context->set_output(0, rows);
  return absl::OkStatus();
}

REGISTER_OP("Splitop>TableLookup")
    .Input("table: resource")
    .Input("ids: Tids")
    .Output("rows: T")
    .Attr("T: {float, double}")
    .Attr("Tids: {int32, int64}")
    .Attr("table_name: string")
    .SetIsStateful()
    .SetShapeFn(TableLookupShape)
    .Doc(R"doc(
The rows of an embedding table that ids point to, as tf.gather(table, ids).

The table is locked while they are copied, and is not copied itself.

table: Handle of a variable of type T, whose rows are under its first dimension.
ids: Rows of the table, of any shape. One out of range is an error.
rows: Shape of ids + shape of a row.
T: The type of the table.
Tids: The type of ids.
table_name: What the user calls the table; for messages.
)doc");

class TableLookupCpuKernel final : public NoThrowKernel {
 public:
  explicit TableLookupCpuKernel(OpKernelConstruction* context) : NoThrowKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("table_name", &name_));
  }

 private:
  absl::Status Execute(OpKernelContext* context) const override {
    tensorflow::core::RefCountPtr<Var> variable;
    const auto& handle = tensorflow::HandleFromInput(context, 0);
    TF_RETURN_IF_ERROR(tensorflow::LookupResource(context, handle, &variable));
    const tensorflow::tf_shared_lock lock(*variable->mu());
    const Tensor& table = *variable->tensor();
    const Tensor& ids = context->input(1);
    TF_RETURN_IF_ERROR(CheckTable(context, table));
    TensorShape shape = ids.shape();
    TF_RETURN_IF_ERROR(AddRowShape(table.shape(), &shape));
    Tensor* rows = nullptr;
    TF_RETURN_IF_ERROR(context->allocate_output(0, shape, &rows));
    const auto lookup = TableLookupArgument(table, table.dtype(), ids, rows->data());
    const absl::Status status = TableLookupCall<>(context).Run(lookup, nullptr, 0);
    return ExplainBadId(name_, ids, lookup.rows, status);
  }

  absl::Status CheckTable(OpKernelContext* context, const Tensor& table) const {
    const tensorflow::DataType expected = context->expected_output_dtype(0);
    if (table.IsInitialized() && table.dtype() == expected && table.dims() > 0) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "splitop: VariableListError: table \"", name_, "\" must be a variable of ",
        tensorflow::DataTypeString(expected), " with a value that has rows. Received: ",
        tensorflow::DataTypeString(table.dtype()), " of shape ", FormatShape(table.shape()), "."));
  }

  std::string name_;
};

#define SPLITOP_REGISTER_CPU(type)                                                          \
  REGISTER_KERNEL_BUILDER(                                                                  \
      Name("Splitop>TableLookup").Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), \
      TableLookupCpuKernel)
SPLITOP_REGISTER_CPU(float);
SPLITOP_REGISTER_CPU(double);
#undef SPLITOP_REGISTER_CPU

}  // namespace
}  // namespace splitop
