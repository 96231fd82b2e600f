// A lookup of rows as the C function takes it, and what is said of ids that it refuses.
#ifndef SPLITOP_TF_TABLE_LOOKUP_ARGUMENTS_H_
#define SPLITOP_TF_TABLE_LOOKUP_ARGUMENTS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "splitop/table_lookup.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/platform/errors.h"
#include "tf/cpu_call.h"
#include "tf/ids.h"

namespace splitop {

template <typename Pool = tensorflow::thread::ThreadPool>
using TableLookupCall = CpuCallWithoutScratch<splitop_table_lookup, splitop_cpu_table_lookup, Pool>;

// Adds the shape of a row to that of the ids.
template <typename Shape>
absl::Status AddRowShape(const Shape& table, tensorflow::TensorShape* rows) {
  for (int d = 1; d < table.dims(); ++d) {
    TF_RETURN_IF_ERROR(rows->AddDimWithStatus(table.dim_size(d)));
  }
  return absl::OkStatus();
}

// dtype: that of the table.
template <typename Tensor>
splitop_table_lookup TableLookupArgument(const Tensor& table, tensorflow::DataType dtype,
                                         const Tensor& ids, void* rows) {
  splitop_table_lookup lookup = {};
  lookup.rows = table.dim_size(0);
  lookup.row_bytes = tensorflow::DataTypeSize(dtype);
  for (int d = 1; d < table.dims(); ++d) lookup.row_bytes *= table.dim_size(d);
  lookup.table = table.data();
  lookup.num_ids = ids.NumElements();
  lookup.id_type = ids.dtype() == tensorflow::DT_INT32 ? SPLITOP_INT32 : SPLITOP_INT64;
  lookup.ids = ids.data();
  lookup.result = rows;
  return lookup;
}

// Puts the user's words to what the C function has refused, if it was for an id.
template <typename Tensor>
absl::Status ExplainBadId(const std::string& table, const Tensor& ids, int64_t rows,
                          const absl::Status& status) {
  for (int64_t position = 0; !status.ok() && position < ids.NumElements(); ++position) {
    const int64_t id = IndexAt(ids, position);
    if (id < 0 || id >= rows) return IdOutOfRange("the ids", table, rows, id, position);
  }
  return status;
}

}  // namespace splitop

#endif  // SPLITOP_TF_TABLE_LOOKUP_ARGUMENTS_H_
