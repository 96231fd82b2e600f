// Registers what XLA's programs call.
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/log/log.h"
#include "absl/status/status.h"
#include "jit/check_message.h"
#include "jit/cuda_handler.h"
#include "jit/dense_chain.h"
#include "jit/dense_sweep.h"
#include "jit/host_handler.h"
#include "jit/multi_tensor_update.h"
#include "jit/node_attrs.h"
#include "jit/squared_norms.h"
#include "jit/table_lookup.h"
#include "jit/table_update.h"
#include "jit/targets.h"
#include "xla/ffi/api/ffi.h"

namespace splitop {
namespace {

// If XLA refuses one, a program that calls it does not compile: XLA's error has its name.
void LogRefusal(const char* target, XLA_FFI_Error* error) {
  if (error == nullptr) return;
  const XLA_FFI_Api* const api = xla::ffi::GetXlaFfiApi();
  LOG(ERROR) << "splitop: XLA does not take the custom call " << target
             << ". Received: " << xla::ffi::internal::GetErrorMessage(api, error);
  xla::ffi::internal::DestroyError(api, error);
}

// Arguments: the tensor, the condition, the numbers of the message.
xla::ffi::Error CheckOnHost(std::string_view node, xla::ffi::RemainingArgs args,
                            xla::ffi::RemainingRets) {
  return ToStepError(WithoutExceptions("Splitop>Check", [&]() -> absl::Status {
    const auto condition = args.get<xla::ffi::AnyBuffer>(1);
    if (*condition->typed_data<bool>()) return absl::OkStatus();
    NodeAttrs attrs;
    TF_RETURN_IF_ERROR(attrs.Parse(node));
    std::vector<std::string> messages;
    TF_RETURN_IF_ERROR(attrs.GetAttr("messages", &messages));
    CheckMessage message(std::move(messages));
    for (size_t i = 2; i < args.size(); ++i) {
      const auto numbers = args.get<xla::ffi::AnyBuffer>(i);
      message.Add({numbers->typed_data<int64_t>(), numbers->element_count()},
                  numbers->dimensions().size() == 0);
    }
    return absl::InvalidArgumentError(message.Finish());
  }));
}

XLA_FFI_Error* RegisterCheckOnHost() {
  using xla::ffi::Ffi;
  static auto* const execute = Ffi::Bind()
                                   .Attr<std::string_view>("node")
                                   .RemainingArgs()
                                   .RemainingRets()
                                   .To(CheckOnHost)
                                   .release();
  return Ffi::RegisterStaticHandler(xla::ffi::GetXlaFfiApi(), kCheckTarget, "Host",
                                    [](XLA_FFI_CallFrame* frame) { return execute->Call(frame); });
}

// There is nothing to do: the arguments are there, or on a GPU will be when later work runs.
xla::ffi::Error After(xla::ffi::RemainingArgs, xla::ffi::RemainingRets) {
  return xla::ffi::Error::Success();
}

XLA_FFI_Error* RegisterAfter(const char* platform) {
  using xla::ffi::Ffi;
  static auto* const execute = Ffi::Bind().RemainingArgs().RemainingRets().To(After).release();
  return Ffi::RegisterStaticHandler(xla::ffi::GetXlaFfiApi(), kAfterTarget, platform,
                                    [](XLA_FFI_CallFrame* frame) { return execute->Call(frame); });
}

template <typename... Ops>
void RegisterAllOnHost() {
  (LogRefusal(Ops::kTarget, RegisterState<Ops>()), ...);
  (LogRefusal(Ops::kTarget, RegisterOnHost<Ops>()), ...);
  LogRefusal(kAfterTarget, RegisterAfter("Host"));
  LogRefusal(kCheckTarget, RegisterCheckOnHost());
}

template <typename... Ops>
void RegisterAllOnCuda() {
  (LogRefusal(Ops::kTarget, RegisterOnCuda<Ops>()), ...);
  LogRefusal(kAfterTarget, RegisterAfter("CUDA"));
}

bool Register() {
  RegisterAllOnHost<DenseChain, DenseSweep, SquaredNorms, MultiTensorUpdate, TableLookup,
                    TableUpdate>();
  RegisterAllOnCuda<DenseChain, MultiTensorUpdate, TableUpdate>();
  return true;
}

[[maybe_unused]] const bool registered = Register();

}  // namespace
}  // namespace splitop
