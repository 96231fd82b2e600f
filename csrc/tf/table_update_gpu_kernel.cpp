// The GPU kernel of Splitop>TableUpdate.
#include <cstddef>

#include "absl/status/status.h"
#include "splitop/table_update.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf/gpu_call.h"
#include "tf/table_update_kernel.h"

namespace splitop {
namespace {

class TableUpdateGpuCall final : public GpuCall<splitop_multi_table_update> {
 public:
  using GpuCall::GpuCall;

  size_t ScratchBytes(const splitop_multi_table_update& update) const override {
    return splitop_cuda_table_update_scratch_bytes(&update);
  }

  absl::Status Run(const splitop_multi_table_update& update, void* scratch,
                   size_t bytes) const override {
    return ToStatus(splitop_cuda_table_update(&update, scratch, bytes, stream()), "");
  }
};

class TableUpdateGpuKernel final : public TableUpdateKernel {
 public:
  using TableUpdateKernel::TableUpdateKernel;

 private:
  absl::Status Execute(tensorflow::OpKernelContext* context) const override {
    stream_executor::Stream* stream;
    TF_RETURN_IF_ERROR(GetStream(context, &stream));
    return Run(context, TableUpdateGpuCall(type_string(), stream));
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
