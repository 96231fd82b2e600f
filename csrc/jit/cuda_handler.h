// What XLA calls on a GPU for the custom call of an op. The work is only enqueued, on XLA's stream.
#ifndef SPLITOP_JIT_CUDA_HANDLER_H_
#define SPLITOP_JIT_CUDA_HANDLER_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "jit/handler.h"
#include "splitop/cuda.h"
#include "tf/cuda_status.h"
#include "tf/op_kernel.h"
#include "xla/ffi/api/ffi.h"

namespace splitop {

// XLA promises less than CUDA functions need.
constexpr size_t kScratchAlignment = 256;

// Function: of a *_cuda.h. XLA hands scratch memory on when the handler returns, to what is
// enqueued later on the same stream.
template <typename Function>
absl::Status RunOnCuda(absl::string_view op, const Function& function, splitop_cuda_stream stream,
                       xla::ffi::ScratchAllocator* memory, const typename Function::Call& call) {
  const size_t bytes = function.ScratchBytes(call);
  void* scratch = nullptr;
  if (bytes > 0) {
    const std::optional<void*> found = memory->Allocate(bytes + kScratchAlignment - 1);
    if (!found.has_value()) return NoMemoryForScratch(bytes);
    const auto address = reinterpret_cast<uintptr_t>(*found);
    const uintptr_t skipped = (kScratchAlignment - address % kScratchAlignment) % kScratchAlignment;
    scratch = static_cast<char*>(*found) + skipped;
  }
  return CudaStatus(op, function.Run(call, scratch, bytes, stream), function.Details());
}

template <typename Op>
xla::ffi::Error ExecuteOnCuda(splitop_cuda_stream stream, xla::ffi::ScratchAllocator memory,
                              CallState<Op>* state, xla::ffi::RemainingArgs args,
                              xla::ffi::RemainingRets rets, xla::ffi::Dictionary) {
  return ExecuteOp(*state, args, rets, [&](const auto& call) {
    return RunOnCuda(Op::kName, typename Op::CudaFunction(), stream, &memory, call);
  });
}

template <typename Op>
XLA_FFI_Error* RegisterOnCuda() {
  return RegisterHandlers<Op, ExecuteOnCuda<Op>>(
      "CUDA", xla::ffi::Ffi::Bind()
                  .Ctx<xla::ffi::PlatformStream<splitop_cuda_stream>>()
                  .Ctx<xla::ffi::ScratchAllocator>());
}

}  // namespace splitop

#endif  // SPLITOP_JIT_CUDA_HANDLER_H_
