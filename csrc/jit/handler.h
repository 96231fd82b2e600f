// What the handlers of an op's custom call have in common on all devices.
#ifndef SPLITOP_JIT_HANDLER_H_
#define SPLITOP_JIT_HANDLER_H_

#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "jit/call_buffers.h"
#include "jit/node_attrs.h"
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

// What a call does on every device, but for `run(call)`, which runs the C function.
template <typename Op, typename RunCall>
xla::ffi::Error ExecuteOp(const CallState<Op>& state, const xla::ffi::RemainingArgs& args,
                          const xla::ffi::RemainingRets& rets, const RunCall& run) {
  return ToStepError(WithoutExceptions(Op::kName, [&]() -> absl::Status {
    CallBuffers buffers(Op::GetResources(state.attrs));
    TF_RETURN_IF_ERROR(buffers.Read(args, rets));
    return Op::Run(state.attrs, buffers, run);
  }));
}

// Has XLA call kExecute on a platform, with what `contexts` binds and the call's state. Returns
// XLA's error, if there is one.
template <typename Op, auto kExecute, typename Contexts>
XLA_FFI_Error* RegisterHandlers(const char* platform, Contexts contexts) {
  static auto* const instantiate = xla::ffi::Ffi::BindInstantiate()
                                       .template Attr<std::string_view>("node")
                                       .To(Instantiate<Op>)
                                       .release();
  static auto* const execute = std::move(contexts)
                                   .template Ctx<xla::ffi::State<CallState<Op>>>()
                                   .RemainingArgs()
                                   .RemainingRets()
                                   .Attrs()
                                   .To(kExecute)
                                   .release();
  const XLA_FFI_Handler_Bundle handlers = {
      [](XLA_FFI_CallFrame* frame) { return instantiate->Call(frame); }, nullptr, nullptr,
      [](XLA_FFI_CallFrame* frame) { return execute->Call(frame); }};
  return xla::ffi::Ffi::RegisterStaticHandler(xla::ffi::GetXlaFfiApi(), Op::kTarget, platform,
                                              handlers);
}

// Once for all platforms.
template <typename Op>
XLA_FFI_Error* RegisterState() {
  static constexpr auto kTypeInfo = xla::ffi::MakeTypeInfo<CallState<Op>>();
  return xla::ffi::Ffi::RegisterTypeId(xla::ffi::GetXlaFfiApi(), Op::kTarget, &CallState<Op>::id,
                                       &kTypeInfo);
}

}  // namespace splitop

#endif  // SPLITOP_JIT_HANDLER_H_
