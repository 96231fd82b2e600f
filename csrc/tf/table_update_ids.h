// What is said of ids, and of gradient rows, that are out of range.
#ifndef SPLITOP_TF_TABLE_UPDATE_IDS_H_
#define SPLITOP_TF_TABLE_UPDATE_IDS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/executor.h"
#include "splitop/table_update.h"
#include "tensorflow/core/framework/types.h"
#include "tf/table_update_attrs.h"

namespace splitop {

template <typename Tensor>
int64_t IndexAt(const Tensor& tensor, int64_t position) {
  return tensor.dtype() == tensorflow::DT_INT32
             ? static_cast<const int32_t*>(tensor.data())[position]
             : static_cast<const int64_t*>(tensor.data())[position];
}

inline absl::Status OutOfRange(const char* what, const TableAttrs& table, int64_t end,
                               int64_t received, int64_t position) {
  return absl::InvalidArgumentError(
      absl::StrCat("splitop: SplitError: ", what, " of \"", table.name, "\" must be in [0, ", end,
                   ")", ". Received: ", received, " at position ", position, "."));
}

// Puts the user's words to what the C function has refused, if it was for ids in host memory.
template <typename Inputs>  // OpKernelContext, or what else has input(index)
absl::Status ExplainBadIds(Inputs* inputs, const TableUpdateAttrs& attrs,
                           const splitop_multi_table_update& update, const absl::Status& status) {
  const splitop_executor alone = {1, nullptr, nullptr};
  int32_t t;
  int64_t position;
  if (!splitop_cpu_find_bad_id(&update, &alone, &t, &position)) return status;
  const splitop_table_update& table = update.tables[t];
  const TableAttrs& attrs_of_table = attrs.tables[t];
  const int64_t id = IndexAt(inputs->input(attrs.IdsInput(t)), position);
  if (id < 0 || id >= table.rows) {
    return OutOfRange("the ids", attrs_of_table, table.rows, id, position);
  }
  const auto& rows = inputs->input(attrs.GradientRowInput(attrs_of_table.gradient_row));
  return OutOfRange("the gradient rows", attrs_of_table, table.gradient_rows,
                    IndexAt(rows, position), position);
}

}  // namespace splitop

#endif  // SPLITOP_TF_TABLE_UPDATE_IDS_H_
