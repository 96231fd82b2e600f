// The CPU kernel of Splitop>TableUpdate.
#include "absl/status/status.h"
#include "splitop/table_update.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/cpu_call.h"
#include "tf/huge_pages.h"
#include "tf/locked_variables.h"
#include "tf/table_update_ids.h"
#include "tf/table_update_kernel.h"

namespace splitop {
namespace {

using tensorflow::OpKernelContext;

class TableUpdateCpuKernel final : public TableUpdateKernel {
 public:
  explicit TableUpdateCpuKernel(tensorflow::OpKernelConstruction* context)
      : TableUpdateKernel(context), pages_(attrs().resources.size()) {}

 private:
  using Call = CpuCall<splitop_multi_table_update, splitop_cpu_table_update_scratch_bytes,
                       splitop_cpu_table_update>;

  absl::Status Execute(OpKernelContext* context) const override {
    return Run(context, Call(context));
  }

  absl::Status Explain(OpKernelContext* context, const splitop_multi_table_update& update,
                       const absl::Status& status) const override {
    return ExplainBadIds(context, attrs(), update, status);
  }

  void Updated(const LockedVariables& variables) const override {
    for (int r = 0; r < attrs().resources.size(); ++r) {
      const tensorflow::Tensor& value = *variables.tensor(r);
      pages_.Move(r, value.data(), value.TotalBytes());
    }
  }

  mutable HugePages pages_;
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
