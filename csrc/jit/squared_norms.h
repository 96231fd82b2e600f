// Splitop>SquaredNorms inside XLA (op.h).
#ifndef SPLITOP_JIT_SQUARED_NORMS_H_
#define SPLITOP_JIT_SQUARED_NORMS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "jit/call_buffers.h"
#include "jit/op.h"
#include "splitop/dense_sweep.h"
#include "tensorflow/core/framework/types.h"
#include "tf/cpu_call.h"
#include "tf/names.h"
#include "tf/resources.h"

namespace splitop {

struct SquaredNorms {
  struct Attrs {
    tensorflow::DataType dtype;
    Resources resources;  // none
  };
  template <typename Pool>
  using HostCall = CpuCall<splitop_squared_norms, splitop_cpu_squared_norms_scratch_bytes,
                           splitop_cpu_squared_norms, Pool>;

  static constexpr char kName[] = "Splitop>SquaredNorms";
  static constexpr char kTarget[] = "splitop_squared_norms";
  static constexpr bool kWrites = false;

  template <typename Context>
  static absl::Status ReadAttrs(Context* context, Attrs* attrs) {
    return context->GetAttr("T", &attrs->dtype);
  }

  static const Resources& GetResources(const Attrs& attrs) { return attrs.resources; }

  static absl::Status GetOutputs(const Attrs&, const InputShapes& shapes, OutputShapes* outputs) {
    outputs->push_back({tensorflow::DT_DOUBLE, {static_cast<int64_t>(shapes.size())}});
    return absl::OkStatus();
  }

  template <typename RunCall>
  static absl::Status Run(const Attrs& attrs, const CallBuffers& buffers, RunCall run) {
    std::vector<int64_t> counts;
    std::vector<const void*> tensors;
    for (int i = 0; i < buffers.num_inputs(); ++i) {
      counts.push_back(buffers.input(i).NumElements());
      tensors.push_back(buffers.input(i).data());
    }
    splitop_squared_norms norms = {};
    norms.dtype = ToSplitopDtype(attrs.dtype);
    norms.num_tensors = buffers.num_inputs();
    norms.counts = counts.data();
    norms.tensors = tensors.data();
    norms.squared_norms = static_cast<double*>(buffers.output(0).data());
    return run(norms);
  }
};

}  // namespace splitop

#endif  // SPLITOP_JIT_SQUARED_NORMS_H_
