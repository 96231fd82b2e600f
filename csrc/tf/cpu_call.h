// A C function on the CPU, with TensorFlow's threads.
#ifndef SPLITOP_TF_CPU_CALL_H_
#define SPLITOP_TF_CPU_CALL_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "splitop/executor.h"
#include "splitop/status.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/platform/threadpool.h"
#include "tf/host_scratch.h"
#include "tf/intra_op_executor.h"
#include "tf/op_kernel.h"

namespace splitop {

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

// kScratchBytes(call, num_workers) and kRun(call, scratch, bytes, executor) are of the C ABI.
// Pool: what has Schedule(function).
template <typename Call, auto kScratchBytes, auto kRun,
          typename Pool = tensorflow::thread::ThreadPool>
class CpuCall final : public DeviceCall<Call> {
 public:
  explicit CpuCall(tensorflow::OpKernelContext* context)
      : CpuCall(context->op_kernel().type_string_view(),
                context->device()->tensorflow_cpu_worker_threads()->workers,
                context->device()->tensorflow_cpu_worker_threads()->num_threads) {}
  CpuCall(absl::string_view op, Pool* pool, int32_t num_threads)
      : op_(op), executor_(pool, num_threads) {}

  absl::Status AllocateScratch(const Call& call, tensorflow::Tensor* scratch) const override {
    const size_t bytes = kScratchBytes(&call, executor_.get()->num_workers);
    *scratch = tensorflow::Tensor(HostScratch::Get(), tensorflow::DT_UINT8,
                                  tensorflow::TensorShape({static_cast<int64_t>(bytes)}));
    if (scratch->IsInitialized()) return absl::OkStatus();
    return NoMemoryForScratch(bytes);
  }

  absl::Status Copy(const tensorflow::Tensor& from, tensorflow::Tensor* to) const override {
    const splitop_executor* executor = executor_.get();
    const size_t bytes = from.TotalBytes();
    const size_t useful = 1 + bytes / CopyTask::kBytesForAWorker;
    const auto workers = std::min<size_t>(useful, executor->num_workers);
    CopyTask task{static_cast<const char*>(from.data()), static_cast<char*>(to->data()), bytes,
                  static_cast<int32_t>(workers)};
    executor->run(executor->context, task.num_workers, CopyTask::Work, &task);
    return absl::OkStatus();
  }

  absl::Status Run(const Call& call, void* scratch, size_t bytes) const override {
    const ScopedFloatMode float_mode;
    const splitop_status status = kRun(&call, scratch, bytes, executor_.get());
    if (status == SPLITOP_OK) return absl::OkStatus();
    return KernelError(op_, absl::StatusCode::kInternal, splitop_status_message(status));
  }

 private:
  const absl::string_view op_;
  const IntraOpExecutor<Pool> executor_;
};

// The same for a function that needs no scratch.
template <typename Call>
size_t NoScratch(const Call*, int32_t) {
  return 0;
}

template <typename Call, auto kRun>
splitop_status RunWithoutScratch(const Call* call, void*, size_t,
                                 const splitop_executor* executor) {
  return kRun(call, executor);
}

template <typename Call, auto kRun, typename Pool = tensorflow::thread::ThreadPool>
using CpuCallWithoutScratch = CpuCall<Call, NoScratch<Call>, RunWithoutScratch<Call, kRun>, Pool>;

}  // namespace splitop

#endif  // SPLITOP_TF_CPU_CALL_H_
