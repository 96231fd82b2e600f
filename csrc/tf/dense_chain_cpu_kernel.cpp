// The CPU kernel of Splitop>DenseChain: float and double; mixed precision is for GPUs only.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "splitop/dense_chain.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/dense_chain_kernel.h"
#include "tf/intra_op_executor.h"

namespace splitop {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

// A copy of memory, each worker taking its share.
struct CopyTask {
  static constexpr size_t kBytesForAWorker = size_t{1} << 20;

  static void Work(void* task, int32_t worker) {
    const auto& [from, to, bytes, num_workers] = *static_cast<const CopyTask*>(task);
    const size_t begin = bytes / num_workers * worker;
    const size_t end = worker + 1 == num_workers ? bytes : begin + bytes / num_workers;
    std::memcpy(to + begin, from + begin, end - begin);
  }

  const char* from;
  char* to;
  size_t bytes;
  int32_t num_workers;
};

class CpuCall final : public DeviceCall {
 public:
  explicit CpuCall(OpKernelContext* context)
      : executor_(context->device()->tensorflow_cpu_worker_threads()->workers) {}

  size_t ScratchBytes(const splitop_dense_chain& chain) const override {
    return splitop_cpu_dense_chain_scratch_bytes(&chain, executor_.get()->num_workers);
  }

  absl::Status Copy(const Tensor& from, Tensor* to) const override {
    const splitop_executor* executor = executor_.get();
    const size_t bytes = from.TotalBytes();
    const size_t useful = 1 + bytes / CopyTask::kBytesForAWorker;
    const auto workers = std::min<size_t>(useful, executor->num_workers);
    CopyTask task{static_cast<const char*>(from.data()), static_cast<char*>(to->data()), bytes,
                  static_cast<int32_t>(workers)};
    executor->run(executor->context, task.num_workers, CopyTask::Work, &task);
    return absl::OkStatus();
  }

  absl::Status Run(const splitop_dense_chain& chain, void* scratch, size_t bytes) const override {
    const ScopedFloatMode float_mode;
    const splitop_status status = splitop_cpu_dense_chain(&chain, scratch, bytes, executor_.get());
    if (status == SPLITOP_OK) return absl::OkStatus();
    return KernelError(absl::StatusCode::kInternal, splitop_status_message(status));
  }

 private:
  const IntraOpExecutor executor_;
};

class DenseChainCpuKernel final : public DenseChainKernel {
 public:
  using DenseChainKernel::DenseChainKernel;

 private:
  absl::Status Execute(OpKernelContext* context) const override {
    return Run(context, CpuCall(context));
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
