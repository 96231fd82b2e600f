// The argument of the C function behind Splitop>TableUpdate, from its inputs and variables.
#ifndef SPLITOP_TF_TABLE_UPDATE_ARGUMENTS_H_
#define SPLITOP_TF_TABLE_UPDATE_ARGUMENTS_H_

#include <vector>

#include "splitop/table_update.h"
#include "tensorflow/core/framework/types.h"
#include "tf/names.h"
#include "tf/table_update_attrs.h"
#include "tf/update_attrs.h"

namespace splitop {

// They point into the inputs and the variables.
template <typename Inputs>  // OpKernelContext, or what else has input(index)
class TableUpdateArguments {
 public:
  TableUpdateArguments(Inputs* inputs, const TableUpdateAttrs& attrs)
      : inputs_(inputs), attrs_(attrs), tables_(attrs.num_tables()) {
    for (int t = 0; t < attrs.num_tables(); ++t) SetGradient(t);
    update_.dtype = ToSplitopDtype(attrs.resources.dtype);
    update_.rule = attrs.update.rule;
    update_.hyper = inputs->input(attrs.update.HyperInput()).data();
    update_.num_tables = attrs.num_tables();
    update_.tables = tables_.data();
  }
  TableUpdateArguments(const TableUpdateArguments&) = delete;
  TableUpdateArguments& operator=(const TableUpdateArguments&) = delete;

  // Where the variables are now.
  template <typename Variables>  // LockedVariables, or what else has tensor(resource)
  void SetVariables(const Variables& variables) {
    for (int t = 0; t < attrs_.num_tables(); ++t) {
      tables_[t].rows = variables.tensor(t)->dim_size(0);
      tables_[t].variable =
          VariableArgument(inputs_, attrs_.update, attrs_.resources, variables, t);
    }
  }

  const splitop_multi_table_update& call() const { return update_; }

 private:
  void SetGradient(int t) {
    const TableAttrs& attrs = attrs_.tables[t];
    splitop_table_update& table = tables_[t];
    const auto& gradient = inputs_->input(attrs_.GradientInput(t));
    table.gradient = gradient.data();
    table.gradient_rows = gradient.dim_size(0);
    table.width = gradient.dim_size(1);
    const auto& ids = inputs_->input(attrs_.IdsInput(t));
    table.ids = ids.data();
    table.id_type = IndexType(ids);
    table.num_ids = ids.NumElements();
    table.sums_squares = attrs.sums_squares;
    table.scope = attrs.all_rows ? SPLITOP_ALL_ROWS : SPLITOP_LOOKED_UP_ROWS;
    if (table.num_ids == 0) {
      table.gradient_rows = 0;  // an empty tensor of bags may have no address
      return;
    }
    if (attrs.gradient_row >= 0) {
      const auto& rows = inputs_->input(attrs_.GradientRowInput(attrs.gradient_row));
      table.gradient_row = rows.data();
      table.gradient_row_type = IndexType(rows);
    }
    table.combiner = attrs.combiner;
  }

  template <typename Tensor>
  static splitop_index_type IndexType(const Tensor& tensor) {
    return tensor.dtype() == tensorflow::DT_INT32 ? SPLITOP_INT32 : SPLITOP_INT64;
  }

  Inputs* const inputs_;
  const TableUpdateAttrs& attrs_;
  std::vector<splitop_table_update> tables_;
  splitop_multi_table_update update_ = {};
};

}  // namespace splitop

#endif  // SPLITOP_TF_TABLE_UPDATE_ARGUMENTS_H_
