// The CPU kernel of Splitop>DenseChain.
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

#define SPLITOP_REGISTER_CPU(tensors, variables)               \
  REGISTER_KERNEL_BUILDER(Name("Splitop>DenseChain")           \
                              .Device(tensorflow::DEVICE_CPU)  \
                              .TypeConstraint<tensors>("T")    \
                              .TypeConstraint<variables>("V"), \
                          DenseChainCpuKernel)
SPLITOP_REGISTER_CPU(float, float);
SPLITOP_REGISTER_CPU(double, double);
SPLITOP_REGISTER_CPU(Eigen::bfloat16, float);
SPLITOP_REGISTER_CPU(Eigen::half, float);
#undef SPLITOP_REGISTER_CPU

}  // namespace
}  // namespace splitop
