// Splitop>DenseChain inside XLA (op.h).
#ifndef SPLITOP_JIT_DENSE_CHAIN_H_
#define SPLITOP_JIT_DENSE_CHAIN_H_

#include "absl/status/status.h"
#include "jit/call_buffers.h"
#include "jit/op.h"
#include "splitop/dense_chain.h"
#include "tf/cpu_call.h"
#include "tf/dense_chain_arguments.h"
#include "tf/dense_chain_attrs.h"
#include "tf/dense_chain_cuda.h"
#include "tf/dense_chain_shapes.h"

namespace splitop {

struct DenseChain {
  using Attrs = DenseChainAttrs;
  template <typename Pool>
  using HostCall = CpuCall<splitop_dense_chain, splitop_cpu_dense_chain_scratch_bytes,
                           splitop_cpu_dense_chain, Pool>;
  using CudaFunction = DenseChainCuda;

  static constexpr char kName[] = "Splitop>DenseChain";
  static constexpr char kTarget[] = "splitop_dense_chain";
  static constexpr bool kWrites = true;

  template <typename Context>
  static absl::Status ReadAttrs(Context* context, Attrs* attrs) {
    return ReadDenseChainAttrs(context, attrs);
  }

  static const Resources& GetResources(const Attrs& attrs) { return attrs.resources; }

  static absl::Status GetOutputs(const Attrs& attrs, const InputShapes& shapes,
                                 OutputShapes* outputs) {
    DenseChainShapeCheck check(attrs, shapes);
    TF_RETURN_IF_ERROR(check.Run());
    if (attrs.input_gradient) {
      outputs->push_back({attrs.dtype, {check.dims().batch, check.dims().widths.back()}});
    }
    return absl::OkStatus();
  }

  template <typename RunCall>
  static absl::Status Run(const Attrs& attrs, const CallBuffers& buffers, RunCall run) {
    const InputShapes shapes = buffers.shapes();
    DenseChainShapeCheck check(attrs, shapes);
    TF_RETURN_IF_ERROR(check.Run());
    TF_RETURN_IF_ERROR(buffers.CheckAliases(attrs.input_gradient));
    if (!Applies(&buffers, attrs.update)) return absl::OkStatus();
    DenseChainArguments arguments(&buffers, attrs, check.dims());
    arguments.SetVariables(buffers);
    if (attrs.input_gradient) arguments.SetInputGradient(buffers.output(0).data());
    return run(arguments.call());
  }
};

}  // namespace splitop

#endif  // SPLITOP_JIT_DENSE_CHAIN_H_
