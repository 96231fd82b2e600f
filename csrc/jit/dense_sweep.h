// Splitop>DenseSweep inside XLA (op.h).
#ifndef SPLITOP_JIT_DENSE_SWEEP_H_
#define SPLITOP_JIT_DENSE_SWEEP_H_

#include <vector>

#include "absl/status/status.h"
#include "jit/call_buffers.h"
#include "jit/op.h"
#include "splitop/dense_sweep.h"
#include "tf/cpu_call.h"
#include "tf/dense_chain_arguments.h"
#include "tf/dense_chain_shapes.h"
#include "tf/dense_sweep_arguments.h"
#include "tf/dense_sweep_attrs.h"

namespace splitop {

struct DenseSweep {
  using Attrs = DenseSweepAttrs;
  template <typename Pool>
  using HostCall = CpuCall<splitop_dense_sweep, splitop_cpu_dense_sweep_scratch_bytes,
                           splitop_cpu_dense_sweep, Pool>;

  static constexpr char kName[] = "Splitop>DenseSweep";
  static constexpr char kTarget[] = "splitop_dense_sweep";
  static constexpr bool kWrites = false;

  template <typename Context>
  static absl::Status ReadAttrs(Context* context, Attrs* attrs) {
    return ReadDenseSweepAttrs(context, attrs);
  }

  static const Resources& GetResources(const Attrs& attrs) { return attrs.chain.resources; }

  static absl::Status GetOutputs(const Attrs& attrs, const InputShapes& shapes,
                                 OutputShapes* outputs) {
    DenseChainShapeCheck check(attrs.chain, shapes);
    TF_RETURN_IF_ERROR(check.Run());
    const DenseChainDims& dims = check.dims();
    for (int l = 0; l < attrs.chain.num_layers(); ++l) {
      outputs->push_back({attrs.chain.dtype, {dims.batch, dims.widths[l]}});
    }
    if (attrs.chain.input_gradient) {
      outputs->push_back({attrs.chain.dtype, {dims.batch, dims.widths.back()}});
    }
    if (attrs.has_norms()) {
      outputs->push_back({tensorflow::DT_DOUBLE, {2, attrs.chain.num_layers()}});
    }
    for (int l = 0; l < attrs.num_kernel_gradients; ++l) {
      const KernelGradientShape shape = GetKernelGradientShape(attrs, dims, l);
      outputs->push_back({attrs.chain.variable_dtype, {shape.rows, shape.columns}});
    }
    return absl::OkStatus();
  }

  template <typename RunCall>
  static absl::Status Run(const Attrs& attrs, const CallBuffers& buffers, RunCall run) {
    const InputShapes shapes = buffers.shapes();
    DenseChainShapeCheck check(attrs.chain, shapes);
    TF_RETURN_IF_ERROR(check.Run());
    DenseChainArguments arguments(&buffers, attrs.chain, check.dims());
    arguments.SetVariables(buffers);
    splitop_dense_sweep sweep = ToSweep(arguments.call());
    std::vector<void*> gradients;
    for (int l = 0; l < attrs.chain.num_layers(); ++l) {
      gradients.push_back(buffers.output(attrs.GradientOutput(l)).data());
    }
    sweep.gradients = gradients.data();
    if (attrs.chain.input_gradient) {
      sweep.input_gradient = buffers.output(attrs.InputGradientOutput()).data();
    }
    sweep.norms = attrs.norms;
    if (attrs.has_norms()) {
      sweep.squared_norms = static_cast<double*>(buffers.output(attrs.NormsOutput()).data());
    }
    std::vector<void*> kernel_gradients;
    for (int l = 0; l < attrs.num_kernel_gradients; ++l) {
      const CallBuffer& output = buffers.output(attrs.KernelGradientOutput(l));
      kernel_gradients.push_back(output.NumElements() > 0 ? output.data() : nullptr);
    }
    if (!kernel_gradients.empty()) sweep.kernel_gradients = kernel_gradients.data();
    return run(sweep);
  }
};

}  // namespace splitop

#endif  // SPLITOP_JIT_DENSE_SWEEP_H_
