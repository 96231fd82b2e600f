// Embedding tables and their update from Python to the C ABI: all checks but those of the kernels
// themselves.
#ifndef SPLITOP_PYTHON_TABLE_ARGUMENTS_H_
#define SPLITOP_PYTHON_TABLE_ARGUMENTS_H_

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "python/array_view.h"
#include "splitop/table_update.h"

namespace splitop {

// A table as Python gives it: any objects, not looked at before a kernel is called.
struct Table {
  pybind11::object value;
  std::vector<pybind11::object> slots;
  pybind11::object ids;
  pybind11::object gradient;
  pybind11::object gradient_row;  // or None
  std::string combiner;
  pybind11::object id_weights;  // or None
  bool all_rows;
  bool sums_squares;
  bool decayed;
};

class TableArguments {
 public:
  TableArguments(Arrays::Viewer viewer, const std::vector<Table>& tables, const std::string& rule,
                 pybind11::handle hyper);
  TableArguments(const TableArguments&) = delete;
  TableArguments& operator=(const TableArguments&) = delete;

  // Valid as long as this object.
  const splitop_multi_table_update& update() const { return update_; }
  Arrays& arrays() { return arrays_; }

 private:
  splitop_table_update to_table(const Table& table, const std::string& name);
  void add_bags(const Table& table, const std::string& name, splitop_table_update& to);

  Arrays arrays_;
  std::string dtype_;
  splitop_multi_table_update update_{};
  std::vector<splitop_table_update> tables_;
};

}  // namespace splitop

#endif  // SPLITOP_PYTHON_TABLE_ARGUMENTS_H_
