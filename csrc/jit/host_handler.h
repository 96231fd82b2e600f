// What XLA calls on a CPU for the custom call of an op.
#ifndef SPLITOP_JIT_HOST_HANDLER_H_
#define SPLITOP_JIT_HOST_HANDLER_H_

#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "jit/call_buffers.h"
#include "jit/node_attrs.h"
#include "tensorflow/core/framework/allocator.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/cpu_call.h"
#include "tf/op_kernel.h"
#include "xla/ffi/api/ffi.h"

namespace xla::ffi {

const XLA_FFI_Api* GetXlaFfiApi();  // Its header, xla/ffi/ffi_api.h, needs those of MLIR.

}  // namespace xla::ffi

namespace splitop {

// An op's attributes, parsed when XLA loads the program.
template <typename Op>  // op.h
struct CallState {
  static inline xla::ffi::TypeId id = {};
  typename Op::Attrs attrs;
};

inline xla::ffi::Error ToFfiError(const absl::Status& status) {
  if (status.ok()) return xla::ffi::Error::Success();
  return {static_cast<xla::ffi::ErrorCode>(status.raw_code()), std::string(status.message())};
}

// Of a step that has begun. XLA takes back nothing, and where it owns the memory of a variable it
// may have kept something else there meanwhile: of those that an op here updates it does not.
inline xla::ffi::Error ToStepError(const absl::Status& status) {
  if (status.ok()) return xla::ffi::Error::Success();
  return ToFfiError(absl::Status(
      status.code(), absl::StrCat(status.message(),
                                  " Inside jit_compile=True, counters and variables that are "
                                  "not fused may have changed.")));
}

// XLA is compiled without exceptions: none may get there.
template <typename Work>
absl::Status WithoutExceptions(absl::string_view op, Work work) {
  try {
    return work();
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("splitop: ", op, " failed. Received: ", error.what()));
  }
}

template <typename Op>
xla::ffi::ErrorOr<std::unique_ptr<CallState<Op>>> Instantiate(std::string_view node) {
  auto state = std::make_unique<CallState<Op>>();
  const absl::Status status = WithoutExceptions(Op::kName, [&]() -> absl::Status {
    NodeAttrs attrs;
    TF_RETURN_IF_ERROR(attrs.Parse(node));
    return Op::ReadAttrs(&attrs, &state->attrs);
  });
  if (!status.ok()) return xla::ffi::Unexpected(ToFfiError(status));
  return state;
}

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

// Returns XLA's error, if there is one.
template <typename Op>
XLA_FFI_Error* RegisterOnHost() {
  using xla::ffi::Ffi;
  const XLA_FFI_Api* const api = xla::ffi::GetXlaFfiApi();
  static constexpr auto kTypeInfo = xla::ffi::MakeTypeInfo<CallState<Op>>();
  if (auto* error = Ffi::RegisterTypeId(api, Op::kTarget, &CallState<Op>::id, &kTypeInfo)) {
    return error;
  }
  static auto* const instantiate =
      Ffi::BindInstantiate().Attr<std::string_view>("node").To(Instantiate<Op>).release();
  static auto* const execute = Ffi::Bind()
                                   .Ctx<xla::ffi::ThreadPool>()
                                   .Ctx<xla::ffi::State<CallState<Op>>>()
                                   .RemainingArgs()
                                   .RemainingRets()
                                   .Attrs()
                                   .To(ExecuteOnHost<Op>)
                                   .release();
  const XLA_FFI_Handler_Bundle handlers = {
      [](XLA_FFI_CallFrame* frame) { return instantiate->Call(frame); }, nullptr, nullptr,
      [](XLA_FFI_CallFrame* frame) { return execute->Call(frame); }};
  return Ffi::RegisterStaticHandler(api, Op::kTarget, "Host", handlers);
}

}  // namespace splitop

#endif  // SPLITOP_JIT_HOST_HANDLER_H_
