// The GPU kernel of Splitop>DenseChain.
#include <cstddef>
#include <cstdlib>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/cuda.h"
#include "splitop/dense_chain.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/platform/tensor_float_32_utils.h"
#include "tf/dense_chain_kernel.h"
#include "tf/gpu_call.h"
#include "tf/names.h"

namespace splitop {
namespace {

using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;

constexpr char kStrategyVariable[] = "SPLITOP_CUDA_STRATEGY";

class DenseChainGpuCall final : public GpuCall<splitop_dense_chain> {
 public:
  DenseChainGpuCall(absl::string_view op, stream_executor::Stream* stream,
                    splitop_cuda_strategy strategy)
      : GpuCall(op, stream) {
    options_.allow_tf32 = tensorflow::tensor_float_32_execution_enabled();
    options_.use_cublas = 1;
    options_.strategy = strategy;
  }

  size_t ScratchBytes(const splitop_dense_chain& chain) const override {
    return splitop_cuda_dense_chain_scratch_bytes(&chain, &options_);
  }

  absl::Status Run(const splitop_dense_chain& chain, void* scratch, size_t bytes) const override {
    return ToStatus(
        splitop_cuda_dense_chain(&chain, scratch, bytes, &options_, stream()),
        absl::StrCat(" (strategy \"", splitop_cuda_strategy_name(options_.strategy), "\")"));
  }

 private:
  splitop_cuda_options options_;
};

class DenseChainGpuKernel final : public DenseChainKernel {
 public:
  explicit DenseChainGpuKernel(OpKernelConstruction* context) : DenseChainKernel(context) {
    const char* const name = std::getenv(kStrategyVariable);
    if (name == nullptr || *name == '\0') return;
    OP_REQUIRES_OK(context, ParseName(kStrategyVariable, name, SPLITOP_NUM_CUDA_STRATEGIES,
                                      splitop_cuda_strategy_name, &strategy_));
  }

 private:
  absl::Status Execute(OpKernelContext* context) const override {
    stream_executor::Stream* stream;
    TF_RETURN_IF_ERROR(GetStream(context, &stream));
    return Run(context, DenseChainGpuCall(type_string(), stream, strategy_));
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
