// The kernels of Splitop>TableUpdate, apart from what a device adds.
#ifndef SPLITOP_TF_TABLE_UPDATE_KERNEL_H_
#define SPLITOP_TF_TABLE_UPDATE_KERNEL_H_

#include "absl/status/status.h"
#include "splitop/table_update.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tf/input_shapes.h"
#include "tf/locked_variables.h"
#include "tf/op_kernel.h"
#include "tf/table_update_arguments.h"
#include "tf/table_update_attrs.h"
#include "tf/table_update_shapes.h"
#include "tf/update_attrs.h"
#include "tf/update_kernel.h"

namespace splitop {

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
    if (!status.ok()) return Explain(context, arguments.call(), status);
    Updated(variables);
    return status;
  }

  const TableUpdateAttrs& attrs() const { return attrs_; }

 private:
  // Puts the user's words to what the C function has refused, if it can.
  virtual absl::Status Explain(tensorflow::OpKernelContext*, const splitop_multi_table_update&,
                               const absl::Status& status) const {
    return status;
  }

  // The tables and their slots, still locked.
  virtual void Updated(const LockedVariables&) const {}

  TableUpdateAttrs attrs_;
};

}  // namespace splitop

#endif  // SPLITOP_TF_TABLE_UPDATE_KERNEL_H_
