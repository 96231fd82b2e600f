// The CPU kernel of Splitop>TableUpdate.
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/executor.h"
#include "splitop/table_update.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/cpu_call.h"
#include "tf/table_update_kernel.h"

namespace splitop {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

int64_t IndexAt(const Tensor& tensor, int64_t position) {
  return tensor.dtype() == tensorflow::DT_INT32 ? tensor.flat<int32_t>()(position)
                                                : tensor.flat<int64_t>()(position);
}

class TableUpdateCpuKernel final : public TableUpdateKernel {
 public:
  using TableUpdateKernel::TableUpdateKernel;

 private:
  using Call = CpuCall<splitop_multi_table_update, splitop_cpu_table_update_scratch_bytes,
                       splitop_cpu_table_update>;

  absl::Status Execute(OpKernelContext* context) const override {
    return Run(context, Call(context));
  }

  absl::Status Explain(OpKernelContext* context, const splitop_multi_table_update& update,
                       const absl::Status& status) const override {
    const splitop_executor alone = {1, nullptr, nullptr};
    int32_t t;
    int64_t position;
    if (!splitop_cpu_find_bad_id(&update, &alone, &t, &position)) return status;
    const splitop_table_update& table = update.tables[t];
    const TableAttrs& attrs_of_table = attrs().tables[t];
    const int64_t id = IndexAt(context->input(attrs().IdsInput(t)), position);
    if (id < 0 || id >= table.rows) {
      return OutOfRange("the ids", attrs_of_table, table.rows, id, position);
    }
    const Tensor& rows = context->input(attrs().GradientRowInput(attrs_of_table.gradient_row));
    return OutOfRange("the gradient rows", attrs_of_table, table.gradient_rows,
                      IndexAt(rows, position), position);
  }

  static absl::Status OutOfRange(const char* what, const TableAttrs& table, int64_t end,
                                 int64_t received, int64_t position) {
    return absl::InvalidArgumentError(
        absl::StrCat("splitop: SplitError: ", what, " of \"", table.name, "\" must be in [0, ", end,
                     ")", ". Received: ", received, " at position ", position, "."));
  }
};

#define SPLITOP_REGISTER_CPU(type)                                                          \
  REGISTER_KERNEL_BUILDER(                                                                  \
      Name("Splitop>TableUpdate").Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), \
      TableUpdateCpuKernel)
SPLITOP_REGISTER_CPU(float);
SPLITOP_REGISTER_CPU(double);
#undef SPLITOP_REGISTER_CPU

}  // namespace
}  // namespace splitop
