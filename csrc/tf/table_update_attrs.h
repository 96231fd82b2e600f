// The attributes of Splitop>TableUpdate, parsed and checked, and the places of its inputs.
#ifndef SPLITOP_TF_TABLE_UPDATE_ATTRS_H_
#define SPLITOP_TF_TABLE_UPDATE_ATTRS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/table_update.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/platform/errors.h"
#include "tf/names.h"
#include "tf/resources.h"
#include "tf/update_attrs.h"

namespace splitop {

constexpr char kTableUpdate[] = "Splitop>TableUpdate";

struct TableAttrs {
  std::string name;  // what the user calls it
  splitop_combiner combiner;
  int gradient_row;  // place among the gradient_rows; -1: has none
  bool all_rows;
  bool sums_squares;
};

struct TableUpdateAttrs {
  std::vector<TableAttrs> tables;
  int num_gradient_rows = 0;
  UpdateAttrs update;
  Resources resources;

  int num_tables() const { return static_cast<int>(tables.size()); }

  // Places among the op's inputs.
  int GradientInput(int table) const { return table; }
  int IdsInput(int table) const { return num_tables() + table; }
  int GradientRowInput(int index) const { return 2 * num_tables() + index; }
};

// The attributes as TensorFlow hands them over.
struct RawTableUpdateAttrs {
  tensorflow::DataType dtype;
  std::vector<tensorflow::DataType> id_types, gradient_row_types;
  int num_tables;
  std::vector<std::string> combiners, table_names;
  std::vector<bool> in_bags, all_rows, sums_squares;
};

template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status GetRawAttrs(Context* context, RawTableUpdateAttrs* raw) {
  TF_RETURN_IF_ERROR(context->GetAttr("T", &raw->dtype));
  TF_RETURN_IF_ERROR(context->GetAttr("Tids", &raw->id_types));
  TF_RETURN_IF_ERROR(context->GetAttr("Trows", &raw->gradient_row_types));
  TF_RETURN_IF_ERROR(context->GetAttr("num_tables", &raw->num_tables));
  TF_RETURN_IF_ERROR(context->GetAttr("combiners", &raw->combiners));
  TF_RETURN_IF_ERROR(context->GetAttr("in_bags", &raw->in_bags));
  TF_RETURN_IF_ERROR(context->GetAttr("all_rows", &raw->all_rows));
  TF_RETURN_IF_ERROR(context->GetAttr("sums_squares", &raw->sums_squares));
  return context->GetAttr("table_names", &raw->table_names);
}

// The lists that hold one entry a table.
inline absl::Status CheckTableLists(const RawTableUpdateAttrs& raw) {
  const int64_t tables = raw.num_tables;
  TF_RETURN_IF_ERROR(CheckCount(kTableUpdate, "ids, one a table", tables, raw.id_types.size()));
  TF_RETURN_IF_ERROR(
      CheckCount(kTableUpdate, "combiners, one a table", tables, raw.combiners.size()));
  TF_RETURN_IF_ERROR(
      CheckCount(kTableUpdate, "in_bags entries, one a table", tables, raw.in_bags.size()));
  TF_RETURN_IF_ERROR(
      CheckCount(kTableUpdate, "all_rows entries, one a table", tables, raw.all_rows.size()));
  TF_RETURN_IF_ERROR(CheckCount(kTableUpdate, "sums_squares entries, one a table", tables,
                                raw.sums_squares.size()));
  return CheckCount(kTableUpdate, "table_names, one a table", tables, raw.table_names.size());
}

inline absl::Status ParseTables(const RawTableUpdateAttrs& raw, TableUpdateAttrs* attrs) {
  TF_RETURN_IF_ERROR(CheckTableLists(raw));
  for (int t = 0; t < raw.num_tables; ++t) {
    TableAttrs table;
    table.name = raw.table_names[t];
    TF_RETURN_IF_ERROR(ParseName("combiner", raw.combiners[t], SPLITOP_NUM_COMBINERS,
                                 splitop_combiner_name, &table.combiner));
    table.gradient_row = raw.in_bags[t] ? attrs->num_gradient_rows++ : -1;
    table.all_rows = raw.all_rows[t];
    table.sums_squares = raw.sums_squares[t];
    attrs->tables.push_back(std::move(table));
  }
  return CheckCount(kTableUpdate, "gradient_rows, one for each table that is in_bags",
                    attrs->num_gradient_rows, raw.gradient_row_types.size());
}

inline Resources TableUpdateResources(const TableUpdateAttrs& attrs, tensorflow::DataType dtype) {
  std::vector<std::string> tables;
  for (const TableAttrs& table : attrs.tables) {
    tables.push_back(absl::StrCat("table \"", table.name, "\""));
  }
  Resources resources = MakeResources(std::move(tables), attrs.update.slots_each());
  resources.first_input = attrs.GradientRowInput(attrs.num_gradient_rows);
  resources.dtype = dtype;
  resources.dtype_of = "its gradient is";
  return resources;
}

// Reads the attributes and checks that they fit together.
template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status ReadTableUpdateAttrs(Context* context, TableUpdateAttrs* attrs) {
  RawTableUpdateAttrs raw;
  TF_RETURN_IF_ERROR(GetRawAttrs(context, &raw));
  TF_RETURN_IF_ERROR(ParseTables(raw, attrs));
  const VariableWords words = {"one a table", "a table"};
  TF_RETURN_IF_ERROR(
      ReadUpdateAttrs(context, kTableUpdate, raw.num_tables, words, false, &attrs->update));
  attrs->resources = TableUpdateResources(*attrs, raw.dtype);
  attrs->update.first_input = attrs->resources.end_input();
  return absl::OkStatus();
}

}  // namespace splitop

#endif  // SPLITOP_TF_TABLE_UPDATE_ATTRS_H_
