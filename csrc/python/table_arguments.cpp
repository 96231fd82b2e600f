#include "python/table_arguments.h"

#include <utility>

#include "python/dtypes.h"
#include "python/names.h"
#include "python/variables.h"

namespace py = pybind11;

namespace splitop {
namespace {

void require_rank(const ArrayView& array, size_t rank, const std::string& name) {
  if (array.shape.size() == rank) return;
  throw py::value_error(name + " must have " + std::to_string(rank) +
                        (rank == 1 ? " dimension" : " dimensions") + ". Received: shape " +
                        to_string(array.shape));
}

splitop_index_type index_type(const ArrayView& array, const std::string& name) {
  for (int i = 0; i < SPLITOP_NUM_INDEX_TYPES; ++i) {
    const auto type = static_cast<splitop_index_type>(i);
    if (array.dtype == splitop_index_type_name(type)) return type;
  }
  throw py::type_error(name + " must have dtype int32 or int64. Received: " + array.dtype);
}

}  // namespace

TableArguments::TableArguments(Arrays::Viewer viewer, const std::vector<Table>& tables,
                               const std::string& rule, py::handle hyper)
    : arrays_(std::move(viewer)) {
  update_.rule = from_name(rule, splitop_update_rule_name, SPLITOP_NUM_UPDATE_RULES, "rule");
  const ArrayView hyper_view = arrays_.view(hyper, "hyper");
  update_.dtype = dtype_of(hyper_view, {SPLITOP_FLOAT32, SPLITOP_FLOAT64}, "hyper");
  dtype_ = splitop_dtype_name(update_.dtype);
  update_.hyper = arrays_.input(hyper_view, dtype_, {splitop_num_hyper(update_.rule)}, "hyper");
  for (size_t i = 0; i < tables.size(); ++i) {
    tables_.push_back(to_table(tables[i], "tables[" + std::to_string(i) + "]"));
  }
  update_.num_tables = static_cast<int32_t>(tables_.size());
  update_.tables = tables_.data();
}

splitop_table_update TableArguments::to_table(const Table& table, const std::string& name) {
  splitop_table_update to{};
  const ArrayView value = arrays_.view(table.value, name + ".value");
  require_rank(value, 2, name + ".value");
  to.rows = value.shape[0];
  to.width = value.shape[1];
  const VariableSpec spec{update_.rule, dtype_, value.shape, name + ".value", name + ".slots"};
  to.variable = to_variable(arrays_, spec, value, table.slots, table.decayed);
  to.sums_squares = table.sums_squares;
  to.scope = table.all_rows ? SPLITOP_ALL_ROWS : SPLITOP_LOOKED_UP_ROWS;

  const ArrayView ids = arrays_.view(table.ids, name + ".ids");
  require_rank(ids, 1, name + ".ids");
  to.id_type = index_type(ids, name + ".ids");
  to.ids = arrays_.input(ids, ids.dtype, ids.shape, name + ".ids");
  to.num_ids = ids.shape[0];
  add_bags(table, name, to);
  return to;
}

void TableArguments::add_bags(const Table& table, const std::string& name,
                              splitop_table_update& to) {
  to.combiner = from_name(table.combiner, splitop_combiner_name, SPLITOP_NUM_COMBINERS,
                          (name + ".combiner").c_str());
  to.gradient_rows = to.num_ids;
  const ArrayView gradient = arrays_.view(table.gradient, name + ".gradient");
  if (!table.gradient_row.is_none()) {
    const ArrayView rows = arrays_.view(table.gradient_row, name + ".gradient_row");
    to.gradient_row_type = index_type(rows, name + ".gradient_row");
    to.gradient_row = arrays_.input(rows, rows.dtype, {to.num_ids}, name + ".gradient_row");
    require_rank(gradient, 2, name + ".gradient");
    to.gradient_rows = gradient.shape[0];
  } else if (to.combiner != SPLITOP_COMBINER_SUM) {
    throw py::value_error(
        name + ".combiner must be sum without gradient_row. Received: " + table.combiner);
  }
  to.gradient = arrays_.input(gradient, dtype_, {to.gradient_rows, to.width}, name + ".gradient");
  if (!table.id_weights.is_none()) {
    to.id_weights = arrays_.input(table.id_weights, dtype_, {to.num_ids}, name + ".id_weights");
  }
}

}  // namespace splitop
