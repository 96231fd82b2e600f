// Splitop>TableUpdate inside XLA (op.h).
#ifndef SPLITOP_JIT_TABLE_UPDATE_H_
#define SPLITOP_JIT_TABLE_UPDATE_H_

#include "absl/status/status.h"
#include "jit/call_buffers.h"
#include "jit/op.h"
#include "splitop/table_update.h"
#include "tf/cpu_call.h"
#include "tf/table_update_arguments.h"
#include "tf/table_update_attrs.h"
#include "tf/table_update_cuda.h"
#include "tf/table_update_ids.h"
#include "tf/table_update_shapes.h"

namespace splitop {

struct TableUpdate {
  using Attrs = TableUpdateAttrs;
  template <typename Pool>
  using HostCall = CpuCall<splitop_multi_table_update, splitop_cpu_table_update_scratch_bytes,
                           splitop_cpu_table_update, Pool>;
  using CudaFunction = TableUpdateCuda;

  static constexpr char kName[] = "Splitop>TableUpdate";
  static constexpr char kTarget[] = "splitop_table_update";
  static constexpr bool kWrites = true;

  template <typename Context>
  static absl::Status ReadAttrs(Context* context, Attrs* attrs) {
    return ReadTableUpdateAttrs(context, attrs);
  }

  static const Resources& GetResources(const Attrs& attrs) { return attrs.resources; }

  static absl::Status GetOutputs(const Attrs& attrs, const InputShapes& shapes, OutputShapes*) {
    return TableUpdateShapeCheck(attrs, shapes).Run();
  }

  template <typename RunCall>
  static absl::Status Run(const Attrs& attrs, const CallBuffers& buffers, RunCall run) {
    const InputShapes shapes = buffers.shapes();
    TF_RETURN_IF_ERROR(TableUpdateShapeCheck(attrs, shapes).Run());
    TF_RETURN_IF_ERROR(buffers.CheckAliases(0));
    if (!Applies(&buffers, attrs.update)) return absl::OkStatus();
    TableUpdateArguments arguments(&buffers, attrs);
    arguments.SetVariables(buffers);
    const absl::Status status = run(arguments.call());
    return status.ok() ? status : ExplainBadIds(&buffers, attrs, arguments.call(), status);
  }
};

}  // namespace splitop

#endif  // SPLITOP_JIT_TABLE_UPDATE_H_
