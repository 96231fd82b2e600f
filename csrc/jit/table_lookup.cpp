// Splitop>TableLookup inside XLA. The planner asks for none there, as XLA's own gather is a part of
// what it fuses: this is for a step that was traced outside and is then compiled by XLA.
#include <cstdint>
#include <vector>

#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "xla/hlo/builder/xla_builder.h"
#include "xla/xla_data.pb.h"

namespace splitop {
namespace {

class TableLookupXlaKernel final : public tensorflow::XlaOpKernel {
 public:
  using XlaOpKernel::XlaOpKernel;

  void Compile(tensorflow::XlaOpKernelContext* context) override {
    tensorflow::TensorShape shape;
    xla::XlaOp table;
    const tensorflow::DataType dtype = output_type(0);
    OP_REQUIRES_OK(context, context->ReadVariableInput(0, dtype, &shape, &table));
    const int rank_of_ids = context->InputShape(1).dims();
    xla::GatherDimensionNumbers dims;
    dims.add_collapsed_slice_dims(0);
    dims.add_start_index_map(0);
    dims.set_index_vector_dim(rank_of_ids);
    std::vector<int64_t> row = {1};
    for (int d = 1; d < shape.dims(); ++d) {
      row.push_back(shape.dim_size(d));
      dims.add_offset_dims(rank_of_ids + d - 1);
    }
    context->SetOutput(0, xla::Gather(table, context->Input(1), dims, row));
  }
};

REGISTER_KERNEL_BUILDER(Name("Splitop>TableLookup").Device(tensorflow::DEVICE_CPU_XLA_JIT),
                        TableLookupXlaKernel);

}  // namespace
}  // namespace splitop
