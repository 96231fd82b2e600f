// The GPU kernel of Splitop>DenseChain. No CUDA header: TensorFlow gives the stream and the memory.
//
// The work is only enqueued, on the one stream on which TensorFlow runs the kernels of a device.
// That stream keeps the order, so host objects can go as soon as all is enqueued:
// - locks: who takes one next enqueues its own reads and writes of the variable after ours;
// - scratch, inputs, a variable's old buffer: the allocator gives their memory only to kernels
//   that are enqueued later.
// Copies between host and device run on other streams. Those wait for the kernels enqueued before
// them, and hold a reference to the tensor meanwhile, so that its variable moves to a new buffer.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/cuda.h"
#include "splitop/dense_chain.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/platform/tensor_float_32_utils.h"
#include "tf/dense_chain_attrs.h"
#include "tf/dense_chain_kernel.h"
#include "xla/stream_executor/device_address.h"
#include "xla/stream_executor/stream.h"

namespace splitop {
namespace {

using stream_executor::DeviceAddressBase;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

constexpr char kStrategyVariable[] = "SPLITOP_CUDA_STRATEGY";

// TensorFlow has made the stream's device the current one of this thread.
class GpuCall final : public DeviceCall {
 public:
  GpuCall(stream_executor::Stream* stream, splitop_cuda_strategy strategy) : stream_(stream) {
    options_.allow_tf32 = tensorflow::tensor_float_32_execution_enabled();
    options_.use_cublas = 1;
    options_.strategy = strategy;
  }

  size_t ScratchBytes(const splitop_dense_chain& chain) const override {
    return splitop_cuda_dense_chain_scratch_bytes(&chain, &options_);
  }

  absl::Status Copy(const Tensor& from, Tensor* to) const override {
    const uint64_t bytes = from.TotalBytes();
    const DeviceAddressBase source(from.data(), bytes);
    DeviceAddressBase target(to->data(), bytes);
    return stream_->MemcpyD2D(&target, source, bytes);
  }

  absl::Status Run(const splitop_dense_chain& chain, void* scratch, size_t bytes) const override {
    void* const stream = stream_->platform_specific_handle().stream;
    const splitop_status status = splitop_cuda_dense_chain(
        &chain, scratch, bytes, &options_, static_cast<splitop_cuda_stream>(stream));
    if (status == SPLITOP_OK) return absl::OkStatus();
    return status == SPLITOP_UNSUPPORTED ? Unsupported() : Failed(status);
  }

 private:
  absl::Status Unsupported() const {
    const splitop_cuda_state state = splitop_cuda_query();
    const char* const cause = state == SPLITOP_CUDA_READY
                                  ? splitop_status_message(SPLITOP_UNSUPPORTED)
                                  : splitop_cuda_state_message(state);
    return KernelError(
        absl::StatusCode::kUnimplemented,
        absl::StrCat(cause, " (strategy \"", splitop_cuda_strategy_name(options_.strategy), "\")"));
  }

  static absl::Status Failed(splitop_status status) {
    const char* const cause =
        status == SPLITOP_DEVICE_ERROR ? splitop_cuda_failure() : "arguments of the op";
    return KernelError(absl::StatusCode::kInternal,
                       absl::StrCat(splitop_status_message(status), ": ", cause));
  }

  stream_executor::Stream* const stream_;
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
    const auto* device = context->op_device_context();
    stream_executor::Stream* const stream = device == nullptr ? nullptr : device->stream();
    if (stream == nullptr)
      return KernelError(absl::StatusCode::kInternal, "a GPU without a stream");
    return Run(context, GpuCall(stream, strategy_));
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
                              .HostMemory("slots"),           \
                          DenseChainGpuKernel)
SPLITOP_REGISTER_GPU(float, float);
SPLITOP_REGISTER_GPU(double, double);
SPLITOP_REGISTER_GPU(Eigen::bfloat16, float);
SPLITOP_REGISTER_GPU(Eigen::half, float);
#undef SPLITOP_REGISTER_GPU

}  // namespace
}  // namespace splitop
