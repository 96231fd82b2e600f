// The rows of an embedding table that ids point to, on the CPU.
#include "splitop/table_lookup.h"

#include <pybind11/numpy.h>

#include <string>

#include "python/bindings.h"
#include "python/errors.h"
#include "python/names.h"
#include "python/numpy_view.h"
#include "python/threads.h"

namespace py = pybind11;

namespace splitop {
namespace {

py::array table_lookup(const py::array& table, const py::array& ids, int num_threads) {
  Arrays arrays(numpy_view);
  const ArrayView rows = arrays.view(table, "table");
  const ArrayView indices = arrays.view(ids, "ids");
  if (rows.shape.size() != 2) {
    throw py::value_error("table must have two dimensions. Received: shape " +
                          to_string(rows.shape));
  }
  splitop_table_lookup lookup = {};
  lookup.rows = rows.shape[0];
  lookup.row_bytes = rows.shape[1] * rows.itemsize;
  lookup.table = arrays.input(rows, rows.dtype, rows.shape, "table");
  lookup.num_ids = indices.size();
  lookup.id_type =
      from_name(indices.dtype, splitop_index_type_name, SPLITOP_NUM_INDEX_TYPES, "the type of ids");
  lookup.ids = arrays.input(indices, indices.dtype, indices.shape, "ids");
  Shape shape = indices.shape;
  shape.push_back(rows.shape[1]);
  py::array result(table.dtype(), shape);
  lookup.result = result.mutable_data();
  const splitop_executor executor = threads_executor(num_threads);
  splitop_status status;
  {
    const py::gil_scoped_release release;
    status = splitop_cpu_table_lookup(&lookup, &executor);
  }
  if (status == SPLITOP_INVALID_ARGUMENT) {
    throw py::value_error("ids must be in [0, " + std::to_string(lookup.rows) +
                          "). Received: one out of range");
  }
  raise_unless_ok(status);
  return result;
}

}  // namespace

void bind_table_lookup(py::module_& module) {
  module.def(
      "table_lookup", &table_lookup, py::arg("table"), py::arg("ids"), py::kw_only(),
      py::arg("num_threads") = 1,
      "The rows of a table, [rows, width], that ids, int32 or int64 of any shape, point to.\n\n"
      "Raises ValueError or TypeError.");
}

}  // namespace splitop
