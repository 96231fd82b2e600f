// The CPU kernel of Splitop>DenseChain: float and double; mixed precision is for GPUs only.
#include "absl/status/status.h"
#include "splitop/dense_chain.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf/cpu_call.h"
#include "tf/dense_chain_kernel.h"

namespace splitop {
namespace {

class DenseChainCpuKernel final : public DenseChainKernel {
 public:
  using DenseChainKernel::DenseChainKernel;

 private:
  using Call =
      CpuCall<splitop_dense_chain, splitop_cpu_dense_chain_scratch_bytes, splitop_cpu_dense_chain>;

  absl::Status Execute(tensorflow::OpKernelContext* context) const override {
    return Run(context, Call(context));
  }
};

#define SPLITOP_REGISTER_CPU(type)                            \
  REGISTER_KERNEL_BUILDER(Name("Splitop>DenseChain")          \
                              .Device(tensorflow::DEVICE_CPU) \
                              .TypeConstraint<type>("T")      \
                              .TypeConstraint<type>("V"),     \
                          DenseChainCpuKernel)
SPLITOP_REGISTER_CPU(float);
SPLITOP_REGISTER_CPU(double);
#undef SPLITOP_REGISTER_CPU

}  // namespace
}  // namespace splitop
