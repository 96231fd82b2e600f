// The GPU kernel of Splitop>MultiTensorUpdate.
#include "absl/status/status.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf/gpu_call.h"
#include "tf/multi_tensor_update_cuda.h"
#include "tf/multi_tensor_update_kernel.h"

namespace splitop {
namespace {

class MultiTensorUpdateGpuKernel final : public MultiTensorUpdateKernel {
 public:
  using MultiTensorUpdateKernel::MultiTensorUpdateKernel;

 private:
  absl::Status Execute(tensorflow::OpKernelContext* context) const override {
    stream_executor::Stream* stream;
    TF_RETURN_IF_ERROR(GetStream(context, &stream));
    return Run(context, GpuCall<MultiTensorUpdateCuda>(context, stream));
  }
};

#define SPLITOP_REGISTER_GPU(type)                            \
  REGISTER_KERNEL_BUILDER(Name("Splitop>MultiTensorUpdate")   \
                              .Device(tensorflow::DEVICE_GPU) \
                              .TypeConstraint<type>("T")      \
                              .HostMemory("variables")        \
                              .HostMemory("slots")            \
                              .HostMemory("conditions"),      \
                          MultiTensorUpdateGpuKernel)
SPLITOP_REGISTER_GPU(float);
SPLITOP_REGISTER_GPU(double);
#undef SPLITOP_REGISTER_GPU

}  // namespace
}  // namespace splitop
