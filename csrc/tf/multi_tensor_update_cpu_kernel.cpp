// The CPU kernel of Splitop>MultiTensorUpdate.
#include "absl/status/status.h"
#include "splitop/multi_tensor_update.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf/cpu_call.h"
#include "tf/multi_tensor_update_kernel.h"

namespace splitop {
namespace {

class MultiTensorUpdateCpuKernel final : public MultiTensorUpdateKernel {
 public:
  using MultiTensorUpdateKernel::MultiTensorUpdateKernel;

 private:
  using Call = CpuCallWithoutScratch<splitop_multi_tensor_update, splitop_cpu_multi_tensor_update>;

  absl::Status Execute(tensorflow::OpKernelContext* context) const override {
    return Run(context, Call(context));
  }
};

#define SPLITOP_REGISTER_CPU(type)                                                                \
  REGISTER_KERNEL_BUILDER(                                                                        \
      Name("Splitop>MultiTensorUpdate").Device(tensorflow::DEVICE_CPU).TypeConstraint<type>("T"), \
      MultiTensorUpdateCpuKernel)
SPLITOP_REGISTER_CPU(float);
SPLITOP_REGISTER_CPU(double);
#undef SPLITOP_REGISTER_CPU

}  // namespace
}  // namespace splitop
