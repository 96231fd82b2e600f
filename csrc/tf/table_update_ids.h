// What is said of ids, and of gradient rows, that are out of range.
#ifndef SPLITOP_TF_TABLE_UPDATE_IDS_H_
#define SPLITOP_TF_TABLE_UPDATE_IDS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "splitop/executor.h"
#include "splitop/table_update.h"
#include "tf/ids.h"
#include "tf/table_update_attrs.h"

namespace splitop {

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
    return IdOutOfRange("the ids", attrs_of_table.name, table.rows, id, position);
  }
  const auto& rows = inputs->input(attrs.GradientRowInput(attrs_of_table.gradient_row));
  return IdOutOfRange("the gradient rows", attrs_of_table.name, table.gradient_rows,
                      IndexAt(rows, position), position);
}

}  // namespace splitop

#endif  // SPLITOP_TF_TABLE_UPDATE_IDS_H_
