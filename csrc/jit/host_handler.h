// What XLA calls on a CPU for the custom call of an op.
#ifndef SPLITOP_JIT_HOST_HANDLER_H_
#define SPLITOP_JIT_HOST_HANDLER_H_

#include <algorithm>
#include <cstdint>

#include "jit/handler.h"
#include "tf/cpu_call.h"
#include "tf/op_kernel.h"
#include "xla/ffi/api/ffi.h"

namespace splitop {

template <typename Op>
xla::ffi::Error ExecuteOnHost(xla::ffi::ThreadPool pool, CallState<Op>* state,
                              xla::ffi::RemainingArgs args, xla::ffi::RemainingRets rets,
                              xla::ffi::Dictionary) {
  const auto num_threads = static_cast<int32_t>(std::max<int64_t>(pool.num_threads(), 1));
  const typename Op::template HostCall<xla::ffi::ThreadPool> device(Op::kName, &pool, num_threads);
  return ExecuteOp(*state, args, rets,
                   [&](const auto& call) { return RunWithScratch(device, call); });
}

template <typename Op>
XLA_FFI_Error* RegisterOnHost() {
  return RegisterHandlers<Op, ExecuteOnHost<Op>>("Host",
                                                 xla::ffi::Ffi::Bind().Ctx<xla::ffi::ThreadPool>());
}

}  // namespace splitop

#endif  // SPLITOP_JIT_HOST_HANDLER_H_
