// Splitop>TableLookup inside XLA (op.h).
#ifndef SPLITOP_JIT_TABLE_LOOKUP_H_
#define SPLITOP_JIT_TABLE_LOOKUP_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "jit/call_buffers.h"
#include "jit/op.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/platform/errors.h"
#include "tf/input_shapes.h"
#include "tf/resources.h"
#include "tf/table_lookup_arguments.h"

namespace splitop {

struct TableLookup {
  struct Attrs {
    std::string name;
    Resources resources;  // the table
  };
  template <typename Pool>
  using HostCall = TableLookupCall<Pool>;

  static constexpr char kName[] = "Splitop>TableLookup";
  static constexpr char kTarget[] = "splitop_table_lookup";
  static constexpr bool kWrites = false;

  template <typename Context>
  static absl::Status ReadAttrs(Context* context, Attrs* attrs) {
    TF_RETURN_IF_ERROR(context->GetAttr("table_name", &attrs->name));
    attrs->resources = MakeResources({absl::StrCat("table \"", attrs->name, "\"")}, 0);
    attrs->resources.dtype_of = "its rows are";
    return context->GetAttr("T", &attrs->resources.dtype);
  }

  static const Resources& GetResources(const Attrs& attrs) { return attrs.resources; }

  static absl::Status GetOutputs(const Attrs& attrs, const InputShapes& shapes,
                                 OutputShapes* outputs) {
    tensorflow::TensorShape rows;
    for (const auto extent : shapes[1].dim_sizes()) {
      TF_RETURN_IF_ERROR(rows.AddDimWithStatus(extent));
    }
    TF_RETURN_IF_ERROR(AddRowShape(shapes[0], &rows));
    outputs->push_back({attrs.resources.dtype, rows});
    return absl::OkStatus();
  }

  template <typename RunCall>
  static absl::Status Run(const Attrs& attrs, const CallBuffers& buffers, RunCall run) {
    const CallBuffer& ids = buffers.input(1);
    const auto lookup =
        TableLookupArgument(buffers.input(0), attrs.resources.dtype, ids, buffers.output(0).data());
    return ExplainBadId(attrs.name, ids, lookup.rows, run(lookup));
  }
};

}  // namespace splitop

#endif  // SPLITOP_JIT_TABLE_LOOKUP_H_
