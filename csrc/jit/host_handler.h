// What XLA calls on a CPU for the custom call of an op.
#ifndef SPLITOP_JIT_HOST_HANDLER_H_
#define SPLITOP_JIT_HOST_HANDLER_H_

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "jit/call_buffers.h"
#include "jit/handler.h"
#include "tensorflow/core/framework/allocator.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/cpu_call.h"
#include "tf/op_kernel.h"
#include "xla/ffi/api/ffi.h"

namespace splitop {

template <typename Call>
absl::Status RunWithHostScratch(const DeviceCall<Call>& device, const Call& call) {
  const auto bytes = static_cast<int64_t>(device.ScratchBytes(call));
  tensorflow::Tensor scratch(tensorflow::cpu_allocator(), tensorflow::DT_UINT8, {bytes});
  if (!scratch.IsInitialized()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("splitop: no memory for scratch. Received: ", bytes, " bytes."));
  }
  return device.Run(call, scratch.data(), scratch.TotalBytes());
}

template <typename Op>
xla::ffi::Error ExecuteOnHost(xla::ffi::ThreadPool pool, CallState<Op>* state,
                              xla::ffi::RemainingArgs args, xla::ffi::RemainingRets rets,
                              xla::ffi::Dictionary) {
  return ToStepError(WithoutExceptions(Op::kName, [&]() -> absl::Status {
    CallBuffers buffers(Op::GetResources(state->attrs));
    TF_RETURN_IF_ERROR(buffers.Read(args, rets));
    const auto num_threads = static_cast<int32_t>(std::max<int64_t>(pool.num_threads(), 1));
    const typename Op::template HostCall<xla::ffi::ThreadPool> device(Op::kName, &pool,
                                                                      num_threads);
    return Op::Run(state->attrs, buffers,
                   [&](const auto& call) { return RunWithHostScratch(device, call); });
  }));
}

template <typename Op>
XLA_FFI_Error* RegisterOnHost() {
  static auto* const execute = xla::ffi::Ffi::Bind()
                                   .Ctx<xla::ffi::ThreadPool>()
                                   .Ctx<xla::ffi::State<CallState<Op>>>()
                                   .RemainingArgs()
                                   .RemainingRets()
                                   .Attrs()
                                   .To(ExecuteOnHost<Op>)
                                   .release();
  return RegisterHandlers<Op>("Host",
                              [](XLA_FFI_CallFrame* frame) { return execute->Call(frame); });
}

}  // namespace splitop

#endif  // SPLITOP_JIT_HOST_HANDLER_H_
