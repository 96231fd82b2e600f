// The GPU kernel of Splitop>DenseChain.
#include <cstdlib>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/cuda.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tf/dense_chain_cuda.h"
#include "tf/dense_chain_kernel.h"
#include "tf/gpu_call.h"
#include "tf/names.h"

namespace splitop {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;

constexpr char kStrategyVariable[] = "SPLITOP_CUDA_STRATEGY";

class DenseChainGpuKernel final : public DenseChainKernel {
 public:
  explicit DenseChainGpuKernel(OpKernelConstruction* context) : DenseChainKernel(context) {
    OP_REQUIRES(context, !attrs().forward,
                absl::UnimplementedError(absl::StrCat(
                    "splitop: ", type_string(),
                    " runs the forward pass on CPUs only. Received: forward=true on a GPU.")));
    const char* const name = std::getenv(kStrategyVariable);
    if (name == nullptr || *name == '\0') return;
    OP_REQUIRES_OK(context, ParseName(kStrategyVariable, name, SPLITOP_NUM_CUDA_STRATEGIES,
                                      splitop_cuda_strategy_name, &strategy_));
  }

 private:
  absl::Status Execute(OpKernelContext* context) const override {
    stream_executor::Stream* stream;
    TF_RETURN_IF_ERROR(GetStream(context, &stream));
    return Run(context, GpuCall(context, stream, DenseChainCuda(strategy_)));
  }

  // For tests and benchmarks; from the environment when the kernel is made.
  splitop_cuda_strategy strategy_ = SPLITOP_CUDA_AUTO;
};

#define SPLITOP_REGISTER_GPU(tensors, variables)              \
  REGISTER_KERNEL_BUILDER(Name("Splitop>DenseChain")          \
                              .Device(tensorflow::DEVICE_GPU) \
                              .TypeConstraint<tensors>("T")   \
                              .TypeConstraint<variables>("V") \
                              .HostMemory("kernels")          \
                              .HostMemory("biases")           \
                              .HostMemory("slots")            \
                              .HostMemory("conditions"),      \
                          DenseChainGpuKernel)
SPLITOP_REGISTER_GPU(float, float);
SPLITOP_REGISTER_GPU(double, double);
SPLITOP_REGISTER_GPU(Eigen::bfloat16, float);
SPLITOP_REGISTER_GPU(Eigen::half, float);
#undef SPLITOP_REGISTER_GPU

}  // namespace
}  // namespace splitop
