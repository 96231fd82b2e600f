// Splitop>MultiTensorUpdate inside XLA (op.h).
#ifndef SPLITOP_JIT_MULTI_TENSOR_UPDATE_H_
#define SPLITOP_JIT_MULTI_TENSOR_UPDATE_H_

#include "absl/status/status.h"
#include "jit/call_buffers.h"
#include "jit/op.h"
#include "splitop/multi_tensor_update.h"
#include "tf/cpu_call.h"
#include "tf/multi_tensor_update_arguments.h"
#include "tf/multi_tensor_update_attrs.h"
#include "tf/multi_tensor_update_cuda.h"

namespace splitop {

struct MultiTensorUpdate {
  using Attrs = MultiTensorUpdateAttrs;
  template <typename Pool>
  using HostCall =
      CpuCallWithoutScratch<splitop_multi_tensor_update, splitop_cpu_multi_tensor_update, Pool>;
  using CudaFunction = MultiTensorUpdateCuda;

  static constexpr char kName[] = "Splitop>MultiTensorUpdate";
  static constexpr char kTarget[] = "splitop_multi_tensor_update";
  static constexpr bool kWrites = true;

  template <typename Context>
  static absl::Status ReadAttrs(Context* context, Attrs* attrs) {
    return ReadMultiTensorUpdateAttrs(context, attrs);
  }

  static const Resources& GetResources(const Attrs& attrs) { return attrs.resources; }

  static absl::Status GetOutputs(const Attrs& attrs, const InputShapes& shapes, OutputShapes*) {
    return CheckMultiTensorUpdateShapes(attrs, shapes);
  }

  template <typename RunCall>
  static absl::Status Run(const Attrs& attrs, const CallBuffers& buffers, RunCall run) {
    TF_RETURN_IF_ERROR(CheckMultiTensorUpdateShapes(attrs, buffers.shapes()));
    TF_RETURN_IF_ERROR(buffers.CheckAliases(0));
    if (!Applies(&buffers, attrs.update)) return absl::OkStatus();
    MultiTensorUpdateArguments arguments(&buffers, attrs);
    arguments.SetVariables(buffers);
    return run(arguments.call());
  }
};

}  // namespace splitop

#endif  // SPLITOP_JIT_MULTI_TENSOR_UPDATE_H_
