// The attributes of Splitop>TableUpdate, parsed and checked, and the places of its inputs.
#ifndef SPLITOP_TF_TABLE_UPDATE_ATTRS_H_
#define SPLITOP_TF_TABLE_UPDATE_ATTRS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "splitop/table_update.h"
#include "splitop/update_rule.h"
#include "tensorflow/core/framework/types.h"
#include "tensorflow/core/platform/errors.h"
#include "tf/names.h"
#include "tf/resources.h"

namespace splitop {

struct TableAttrs {
  std::string name;  // what the user calls it
  splitop_combiner combiner;
  int gradient_row;  // place among the gradient_rows; -1: has none
  bool all_rows;
  bool sums_squares;
  bool decayed;
};

struct TableUpdateAttrs {
  std::vector<TableAttrs> tables;
  int num_gradient_rows = 0;
  splitop_update_rule rule;
  tensorflow::DataType dtype;
  Resources resources;

  int num_tables() const { return static_cast<int>(tables.size()); }
  int slots_per_table() const { return splitop_num_slots(rule); }

  // Places among the op's inputs.
  int GradientInput(int table) const { return table; }
  int IdsInput(int table) const { return num_tables() + table; }
  int GradientRowInput(int index) const { return 2 * num_tables() + index; }
  int HyperInput() const { return resources.Input(resources.size()); }

  // Places among the resources; a table has the same place in both lists.
  int SlotResource(int table, int slot) const {
    return num_tables() + table * slots_per_table() + slot;
  }
};

// The attributes as TensorFlow hands them over.
struct RawTableUpdateAttrs {
  tensorflow::DataType dtype;
  std::vector<tensorflow::DataType> id_types, gradient_row_types;
  int num_tables, num_slots;
  std::vector<std::string> combiners, table_names;
  std::vector<bool> in_bags, all_rows, sums_squares, decayed;
  std::string rule;
};

template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status GetRawAttrs(Context* context, RawTableUpdateAttrs* raw) {
  TF_RETURN_IF_ERROR(context->GetAttr("T", &raw->dtype));
  TF_RETURN_IF_ERROR(context->GetAttr("Tids", &raw->id_types));
  TF_RETURN_IF_ERROR(context->GetAttr("Trows", &raw->gradient_row_types));
  TF_RETURN_IF_ERROR(context->GetAttr("num_tables", &raw->num_tables));
  TF_RETURN_IF_ERROR(context->GetAttr("num_slots", &raw->num_slots));
  TF_RETURN_IF_ERROR(context->GetAttr("combiners", &raw->combiners));
  TF_RETURN_IF_ERROR(context->GetAttr("in_bags", &raw->in_bags));
  TF_RETURN_IF_ERROR(context->GetAttr("all_rows", &raw->all_rows));
  TF_RETURN_IF_ERROR(context->GetAttr("sums_squares", &raw->sums_squares));
  TF_RETURN_IF_ERROR(context->GetAttr("rule", &raw->rule));
  TF_RETURN_IF_ERROR(context->GetAttr("decayed", &raw->decayed));
  return context->GetAttr("table_names", &raw->table_names);
}

// The lists that hold one entry a table.
inline absl::Status CheckTableLists(const RawTableUpdateAttrs& raw) {
  constexpr char kOp[] = "Splitop>TableUpdate";
  const int64_t tables = raw.num_tables;
  TF_RETURN_IF_ERROR(CheckCount(kOp, "ids, one a table", tables, raw.id_types.size()));
  TF_RETURN_IF_ERROR(CheckCount(kOp, "combiners, one a table", tables, raw.combiners.size()));
  TF_RETURN_IF_ERROR(CheckCount(kOp, "in_bags entries, one a table", tables, raw.in_bags.size()));
  TF_RETURN_IF_ERROR(CheckCount(kOp, "all_rows entries, one a table", tables, raw.all_rows.size()));
  TF_RETURN_IF_ERROR(
      CheckCount(kOp, "sums_squares entries, one a table", tables, raw.sums_squares.size()));
  TF_RETURN_IF_ERROR(CheckCount(kOp, "decayed entries, one a table", tables, raw.decayed.size()));
  return CheckCount(kOp, "table_names, one a table", tables, raw.table_names.size());
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
    table.decayed = raw.decayed[t];
    attrs->tables.push_back(std::move(table));
  }
  TF_RETURN_IF_ERROR(CheckCount("Splitop>TableUpdate",
                                "gradient_rows, one for each table that is in_bags",
                                attrs->num_gradient_rows, raw.gradient_row_types.size()));
  return CheckCount("Splitop>TableUpdate",
                    absl::StrCat("slots, the rule \"", raw.rule, "\" having ",
                                 attrs->slots_per_table(), " a table"),
                    raw.num_tables * attrs->slots_per_table(), raw.num_slots);
}

inline Resources TableUpdateResources(const TableUpdateAttrs& attrs) {
  std::vector<std::string> tables;
  for (const TableAttrs& table : attrs.tables) {
    tables.push_back(absl::StrCat("table \"", table.name, "\""));
  }
  Resources resources;
  resources.first_input = attrs.GradientRowInput(attrs.num_gradient_rows);
  resources.dtype = attrs.dtype;
  resources.dtype_of = "its gradient is";
  resources.descriptions = WithSlots(std::move(tables), attrs.slots_per_table());
  return resources;
}

// Reads the attributes and checks that they fit together.
template <typename Context>  // OpKernelConstruction or InferenceContext
absl::Status ReadTableUpdateAttrs(Context* context, TableUpdateAttrs* attrs) {
  RawTableUpdateAttrs raw;
  TF_RETURN_IF_ERROR(GetRawAttrs(context, &raw));
  attrs->dtype = raw.dtype;
  TF_RETURN_IF_ERROR(ParseRule(raw.rule, &attrs->rule));
  TF_RETURN_IF_ERROR(ParseTables(raw, attrs));
  attrs->resources = TableUpdateResources(*attrs);
  return absl::OkStatus();
}

}  // namespace splitop

#endif  // SPLITOP_TF_TABLE_UPDATE_ATTRS_H_
