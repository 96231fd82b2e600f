// A C function on a GPU, on TensorFlow's stream. No CUDA header: TensorFlow gives the stream and
// the memory.
//
// The work is only enqueued, on the one stream on which TensorFlow runs the kernels of a device.
// That stream keeps the order, so host objects can go as soon as all is enqueued:
// - locks: who takes one next enqueues its own reads and writes of the variable after ours;
// - scratch, inputs, a variable's old buffer: the allocator gives their memory only to kernels
//   that are enqueued later.
// Copies between host and device run on other streams. Those wait for the kernels enqueued before
// them, and hold a reference to the tensor meanwhile, so that its variable moves to a new buffer.
#ifndef SPLITOP_TF_GPU_CALL_H_
#define SPLITOP_TF_GPU_CALL_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "splitop/cuda.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/cuda_status.h"
#include "tf/op_kernel.h"
#include "xla/stream_executor/device_address.h"
#include "xla/stream_executor/stream.h"

namespace splitop {

// TensorFlow has made the stream's device the current one of this thread.
inline absl::Status GetStream(tensorflow::OpKernelContext* context,
                              stream_executor::Stream** stream) {
  const auto* device = context->op_device_context();
  *stream = device == nullptr ? nullptr : device->stream();
  if (*stream != nullptr) return absl::OkStatus();
  return KernelError(context->op_kernel().type_string_view(), absl::StatusCode::kInternal,
                     "a GPU without a stream");
}

// Function: of a *_cuda.h.
template <typename Function>
class GpuCall final : public DeviceCall<typename Function::Call> {
 public:
  using Call = typename Function::Call;

  GpuCall(tensorflow::OpKernelContext* context, stream_executor::Stream* stream,
          Function function = Function())
      : context_(context), stream_(stream), function_(function) {}

  absl::Status AllocateScratch(const Call& call, tensorflow::Tensor* scratch) const override {
    const auto bytes = static_cast<int64_t>(function_.ScratchBytes(call));
    return context_->allocate_temp(tensorflow::DT_UINT8, tensorflow::TensorShape({bytes}), scratch);
  }

  absl::Status Copy(const tensorflow::Tensor& from, tensorflow::Tensor* to) const override {
    const uint64_t bytes = from.TotalBytes();
    const stream_executor::DeviceAddressBase source(from.data(), bytes);
    stream_executor::DeviceAddressBase target(to->data(), bytes);
    return stream_->MemcpyD2D(&target, source, bytes);
  }

  absl::Status Run(const Call& call, void* scratch, size_t bytes) const override {
    auto* const stream =
        static_cast<splitop_cuda_stream>(stream_->platform_specific_handle().stream);
    return CudaStatus(context_->op_kernel().type_string_view(),
                      function_.Run(call, scratch, bytes, stream), function_.Details());
  }

 private:
  tensorflow::OpKernelContext* const context_;
  stream_executor::Stream* const stream_;
  const Function function_;
};

}  // namespace splitop

#endif  // SPLITOP_TF_GPU_CALL_H_
