// The update of embedding tables on the CPU.
#include "splitop/table_update.h"

#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "python/bindings.h"
#include "python/errors.h"
#include "python/numpy_view.h"
#include "python/table_arguments.h"
#include "python/threads.h"

namespace py = pybind11;

namespace splitop {
namespace {

constexpr size_t kAlignment = 64;

int64_t index_at(splitop_index_type type, const void* indices, int64_t position) {
  return type == SPLITOP_INT32 ? static_cast<const int32_t*>(indices)[position]
                               : static_cast<const int64_t*>(indices)[position];
}

void raise_out_of_range(const std::string& name, int64_t limit, int64_t received) {
  throw py::value_error(name + " must be in [0, " + std::to_string(limit) +
                        "). Received: " + std::to_string(received));
}

// Raises an error with the name of the first bad id, if there is one.
void require_good_ids(const splitop_multi_table_update& update, const splitop_executor& executor) {
  int32_t i;
  int64_t position;
  if (splitop_cpu_find_bad_id(&update, &executor, &i, &position) == 0) return;
  const splitop_table_update& table = update.tables[i];
  const std::string name = "tables[" + std::to_string(i) + "]";
  const std::string index = "[" + std::to_string(position) + "]";
  const int64_t id = index_at(table.id_type, table.ids, position);
  if (id < 0 || id >= table.rows) raise_out_of_range(name + ".ids" + index, table.rows, id);
  raise_out_of_range(name + ".gradient_row" + index, table.gradient_rows,
                     index_at(table.gradient_row_type, table.gradient_row, position));
}

void table_update(const std::vector<Table>& tables, const std::string& rule, py::handle hyper,
                  int num_threads) {
  const TableArguments arguments(numpy_view, tables, rule, hyper);
  const splitop_executor executor = threads_executor(num_threads);
  splitop_status status;
  {
    const py::gil_scoped_release release;
    const size_t bytes = splitop_cpu_table_update_scratch_bytes(&arguments.update(), num_threads);
    struct alignas(kAlignment) Line {
      char bytes[kAlignment];
    };
    const std::unique_ptr<Line[]> scratch(new Line[bytes / kAlignment + 1]);
    status = splitop_cpu_table_update(&arguments.update(), scratch.get(), bytes, &executor);
  }
  if (status == SPLITOP_INVALID_ARGUMENT) require_good_ids(arguments.update(), executor);
  raise_unless_ok(status);
}

}  // namespace

void bind_table_update(py::module_& module) {
  using Objects = std::vector<py::object>;
  py::class_<Table>(
      module, "Table",
      "An embedding table and the rows of it that were looked up.\n\n"
      "value: [rows, width], and slots, the optimizer's state, of its shape, or [rows] of a\n"
      "row-wise rule: updated in place.\n"
      "ids: [positions], the rows that were looked up; int32 or int64.\n"
      "gradient: [positions, width]; with gradient_row, int32 or int64, [bags, width], and\n"
      "gradient_row[p] is the bag that position p belongs to; negative: none.\n"
      "combiner: 'sum', 'mean' or 'sqrtn': how the rows of a bag were combined.\n"
      "id_weights: [positions], factors of the rows of the gradient.\n"
      "all_rows: the rule is applied to rows that were not looked up, too, with g = 0.\n"
      "sums_squares: where the rule has g * g, it takes the sum of the squares of g's terms.\n"
      "decayed: weight decay applies to it.",
      py::module_local())  // two builds of this module may be loaded at once
      .def(py::init<py::object, Objects, py::object, py::object, py::object, std::string,
                    py::object, bool, bool, bool>(),
           py::arg("value"), py::arg("slots"), py::arg("ids"), py::arg("gradient"), py::kw_only(),
           py::arg("gradient_row") = py::none(), py::arg("combiner") = "sum",
           py::arg("id_weights") = py::none(), py::arg("all_rows") = false,
           py::arg("sums_squares") = false, py::arg("decayed") = false);
  module.def("table_update", &table_update, py::arg("tables"), py::kw_only(), py::arg("rule"),
             py::arg("hyper"), py::arg("num_threads") = 1,
             "Updates embedding tables from the gradients of the rows that were looked up.\n\n"
             "tables: NumPy arrays of the dtype of hyper, float32 or float64, but for indices.\n"
             "rule: its name; hyper: its scalars (splitop/update_rule.h).\n"
             "Raises ValueError or TypeError, before anything is written.");
}

}  // namespace splitop
