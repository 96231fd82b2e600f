// The kernels of Splitop>TableUpdate, apart from what a device adds.
#ifndef SPLITOP_TF_TABLE_UPDATE_KERNEL_H_
#define SPLITOP_TF_TABLE_UPDATE_KERNEL_H_

#include <vector>

#include "absl/status/status.h"
#include "splitop/table_update.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/input_shapes.h"
#include "tf/locked_variables.h"
#include "tf/names.h"
#include "tf/op_kernel.h"
#include "tf/table_update_attrs.h"
#include "tf/table_update_shapes.h"
#include "tf/update_attrs.h"
#include "tf/update_kernel.h"

namespace splitop {

// The arguments of the C function. They point into tensors of the context and of the variables.
class TableUpdateArguments {
 public:
  TableUpdateArguments(tensorflow::OpKernelContext* context, const TableUpdateAttrs& attrs)
      : context_(context), attrs_(attrs), tables_(attrs.num_tables()) {
    for (int t = 0; t < attrs.num_tables(); ++t) SetGradient(t);
    update_.dtype = ToSplitopDtype(attrs.resources.dtype);
    update_.rule = attrs.update.rule;
    update_.hyper = context->input(attrs.update.HyperInput()).data();
    update_.num_tables = attrs.num_tables();
    update_.tables = tables_.data();
  }
  TableUpdateArguments(const TableUpdateArguments&) = delete;
  TableUpdateArguments& operator=(const TableUpdateArguments&) = delete;

  // Where the variables are now.
  void SetVariables(const LockedVariables& variables) {
    for (int t = 0; t < attrs_.num_tables(); ++t) {
      tables_[t].rows = variables.tensor(t)->dim_size(0);
      tables_[t].variable =
          VariableArgument(context_, attrs_.update, attrs_.resources, variables, t);
    }
  }

  const splitop_multi_table_update& call() const { return update_; }

 private:
  void SetGradient(int t) {
    const TableAttrs& attrs = attrs_.tables[t];
    splitop_table_update& table = tables_[t];
    const tensorflow::Tensor& gradient = context_->input(attrs_.GradientInput(t));
    table.gradient = gradient.data();
    table.gradient_rows = gradient.dim_size(0);
    table.width = gradient.dim_size(1);
    const tensorflow::Tensor& ids = context_->input(attrs_.IdsInput(t));
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
      const tensorflow::Tensor& rows = context_->input(attrs_.GradientRowInput(attrs.gradient_row));
      table.gradient_row = rows.data();
      table.gradient_row_type = IndexType(rows);
    }
    table.combiner = attrs.combiner;
  }

  static splitop_index_type IndexType(const tensorflow::Tensor& tensor) {
    return tensor.dtype() == tensorflow::DT_INT32 ? SPLITOP_INT32 : SPLITOP_INT64;
  }

  tensorflow::OpKernelContext* const context_;
  const TableUpdateAttrs& attrs_;
  std::vector<splitop_table_update> tables_;
  splitop_multi_table_update update_ = {};
};

class TableUpdateKernel : public NoThrowKernel {
 public:
  explicit TableUpdateKernel(tensorflow::OpKernelConstruction* context) : NoThrowKernel(context) {
    OP_REQUIRES_OK(context, ReadTableUpdateAttrs(context, &attrs_));
  }

 protected:
  // Keeps the locks until the work is done, or enqueued.
  absl::Status Run(tensorflow::OpKernelContext* context,
                   const DeviceCall<splitop_multi_table_update>& device) const {
    LockedVariables variables(attrs_.resources);
    TF_RETURN_IF_ERROR(variables.Acquire(context));
    const InputShapes shapes = ReceivedInputShapes(context, attrs_.resources, variables);
    TF_RETURN_IF_ERROR(TableUpdateShapeCheck(attrs_, shapes).Run());
    if (!Applies(context, attrs_.update)) return absl::OkStatus();
    TableUpdateArguments arguments(context, attrs_);
    const absl::Status status = Update(context, device, &variables, &arguments);
    return status.ok() ? status : Explain(context, arguments.call(), status);
  }

  const TableUpdateAttrs& attrs() const { return attrs_; }

 private:
  // Puts the user's words to what the C function has refused, if it can.
  virtual absl::Status Explain(tensorflow::OpKernelContext*, const splitop_multi_table_update&,
                               const absl::Status& status) const {
    return status;
  }

  TableUpdateAttrs attrs_;
};

}  // namespace splitop

#endif  // SPLITOP_TF_TABLE_UPDATE_KERNEL_H_
