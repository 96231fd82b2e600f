// The GPU kernel of Splitop>TableUpdate.
#include "absl/status/status.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf/gpu_call.h"
#include "tf/table_update_cuda.h"
#include "tf/table_update_kernel.h"

namespace splitop {
namespace {

class TableUpdateGpuKernel final : public TableUpdateKernel {
 public:
  using TableUpdateKernel::TableUpdateKernel;

 private:
  absl::Status Execute(tensorflow::OpKernelContext* context) const override {
    stream_executor::Stream* stream;
    TF_RETURN_IF_ERROR(GetStream(context, &stream));
    return Run(context, GpuCall<TableUpdateCuda>(context, stream));
  }
};

#define SPLITOP_REGISTER_GPU(type)                            \
  REGISTER_KERNEL_BUILDER(Name("Splitop>TableUpdate")         \
                              .Device(tensorflow::DEVICE_GPU) \
                              .TypeConstraint<type>("T")      \
                              .HostMemory("tables")           \
                              .HostMemory("slots")            \
                              .HostMemory("conditions"),      \
                          TableUpdateGpuKernel)
SPLITOP_REGISTER_GPU(float);
SPLITOP_REGISTER_GPU(double);
#undef SPLITOP_REGISTER_GPU

}  // namespace
}  // namespace splitop
