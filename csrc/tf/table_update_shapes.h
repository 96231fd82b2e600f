// Which shapes the inputs of Splitop>TableUpdate must have: one definition, used on what is known
// while the graph is built (shape function) and on what arrives (kernel).
#ifndef SPLITOP_TF_TABLE_UPDATE_SHAPES_H_
#define SPLITOP_TF_TABLE_UPDATE_SHAPES_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/tensor_shape.h"
#include "tf/input_shapes.h"
#include "tf/shapes.h"
#include "tf/table_update_attrs.h"
#include "tf/update_attrs.h"

namespace splitop {

// The elements of a row; kUnknownDim if that is not known.
inline int64_t RowWidth(const tensorflow::PartialTensorShape& table) {
  if (table.unknown_rank()) return kUnknownDim;
  int64_t width = 1;
  for (int d = 1; d < table.dims(); ++d) {
    if (table.dim_size(d) == kUnknownDim) return kUnknownDim;
    width *= table.dim_size(d);
  }
  return width;
}

// One shape for each input of the op; a resource's is that of its variable.
class TableUpdateShapeCheck {
 public:
  TableUpdateShapeCheck(const TableUpdateAttrs& attrs, const InputShapes& shapes)
      : attrs_(attrs), shapes_(shapes) {}

  absl::Status Run() const {
    TF_RETURN_IF_ERROR(CheckUpdateInputs(attrs_.update, shapes_));
    for (int t = 0; t < attrs_.num_tables(); ++t) {
      TF_RETURN_IF_ERROR(CheckTable(t));
      TF_RETURN_IF_ERROR(CheckGradient(t));
    }
    return CheckSlots(attrs_.update, attrs_.resources, shapes_);
  }

 private:
  const tensorflow::PartialTensorShape& Table(int table) const {
    return shapes_[attrs_.resources.Input(table)];
  }

  absl::Status CheckTable(int table) const {
    if (Table(table).unknown_rank() || Table(table).dims() > 0) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("splitop: SplitError: ", attrs_.resources.descriptions[table],
                     " must have rows. Received: a scalar."));
  }

  absl::Status CheckGradient(int table) const {
    const TableAttrs& attrs = attrs_.tables[table];
    const auto describe = [&](const char* what, const char* why) {
      return [&attrs, what, why] {
        return ShapeDescription{"SplitError", absl::StrCat(what, " of \"", attrs.name, "\""), why};
      };
    };
    int64_t ids = kUnknownDim;
    TF_RETURN_IF_ERROR(
        ExpectShape(shapes_[attrs_.IdsInput(table)], {&ids}, describe("the ids", "one dimension")));
    int64_t width = RowWidth(Table(table));
    int64_t rows = attrs.gradient_row < 0 ? ids : kUnknownDim;
    TF_RETURN_IF_ERROR(
        ExpectShape(shapes_[attrs_.GradientInput(table)], {&rows, &width},
                    describe("the gradient", attrs.gradient_row < 0 ? "ids x elements of a row"
                                                                    : "bags x elements of a row")));
    if (attrs.gradient_row < 0) return absl::OkStatus();
    return ExpectShape(shapes_[attrs_.GradientRowInput(attrs.gradient_row)], {&ids},
                       describe("the gradient rows", "one for each id"));
  }

  const TableUpdateAttrs& attrs_;
  const InputShapes& shapes_;
};

}  // namespace splitop

#endif  // SPLITOP_TF_TABLE_UPDATE_SHAPES_H_
