// Registers the op Splitop>TableUpdate: its signature, shape function and documentation.
#include "absl/status/status.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tf/input_shapes.h"
#include "tf/table_update_attrs.h"
#include "tf/table_update_shapes.h"

namespace splitop {
namespace {

absl::Status TableUpdateShape(tensorflow::shape_inference::InferenceContext* context) {
  TableUpdateAttrs attrs;
  TF_RETURN_IF_ERROR(ReadTableUpdateAttrs(context, &attrs));
  InputShapes shapes;
  TF_RETURN_IF_ERROR(KnownInputShapes(context, attrs.resources, &shapes));
  return TableUpdateShapeCheck(attrs, shapes).Run();
}

REGISTER_OP("Splitop>TableUpdate")
    .Input("gradients: num_tables * T")
    .Input("ids: Tids")
    .Input("gradient_rows: Trows")
    .Input("tables: num_tables * resource")
    .Input("slots: num_slots * resource")
    .Input("hyper: T")
    .Input("conditions: num_conditions * bool")
    .Attr("T: {float, double}")
    .Attr("Tids: list({int32, int64}) >= 1")
    .Attr("Trows: list({int32, int64}) >= 0")
    .Attr("num_tables: int >= 1")
    .Attr("num_slots: int >= 0")
    .Attr("num_conditions: int >= 0")
    .Attr("combiners: list(string) >= 1")
    .Attr("in_bags: list(bool) >= 1")
    .Attr("all_rows: list(bool) >= 1")
    .Attr("sums_squares: list(bool) >= 1")
    .Attr("rule: string")
    .Attr("decayed: list(bool) >= 1")
    .Attr("table_names: list(string) >= 1")
    .SetIsStateful()
    .SetShapeFn(TableUpdateShape)
    .Doc(R"doc(
The optimizer's update of embedding tables, from the gradients of what was looked up, in one op.

Position p of a table's ids has looked up row ids[p]. The gradient of a row is the sum, over the
positions of its id in ascending order, of the gradient's row p, or gradient_rows[p] if the table
is in bags, times the combiner's factor. The rule is applied to a row once. The gradient of a
whole table is never made.

All inputs, on CPUs the ids too, are checked before anything is written: after an error every
variable and slot is as it was. On GPUs ids are not checked: as in TensorFlow's own kernels, one that
is out of range updates nothing; one whose bag is too large adds nothing to its row's gradient. The
variables stay locked, in the order of their addresses, from the checks to the end; a tensor that was
read from a variable before keeps its value. The result is the same, bit for bit, from run to run,
whatever the number of threads.

gradients: For each table, the gradient of what was looked up. Shape [ids of the table, elements of
  a row], or [bags, elements of a row].
ids: For each table, the rows that were looked up. Shape [ids of the table].
gradient_rows: For each table that is in bags, in order, the bag of each id: a row of the table's
  gradient. Where it is negative, the id is in no bag and gets no gradient. Shape [ids of the table].
tables: Resource variables of type T and any shape [rows, ...]. Updated.
slots: The optimizer's state, as resource variables of their table's type and shape, or of a
  row-wise rule of shape [rows]: those of the first table in the rule's order, those of the second,
  and so on. Updated.
hyper: The hyperparameters of the rule, in its order. In the memory of the op's device.
conditions: Where num_conditions is 1, whether the tables are updated; a scalar. If not, the
  checks are all that is done.
T: The type of all gradients, tables, slots and hyperparameters.
Tids: The type of each table's ids.
Trows: The type of each entry of gradient_rows.
num_tables: How many tables there are.
num_slots: Slots of all tables: num_tables times those of the rule.
num_conditions: 1 if there is a condition, else 0.
combiners: For each table, how the forward pass has combined the rows of a bag: sum, mean or sqrtn.
in_bags: Whether each table has gradient_rows.
all_rows: Whether the rule is applied to every row of each table, with a gradient of 0 where no id
  points; else only to the rows that were looked up.
sums_squares: Whether the rule takes, where it has the square of a row's gradient, the sum of the
  squares of its terms, for each table. Not for adadelta, adamax and rowwise_adagrad.
rule: The update rule, as in Splitop>DenseChain, or a row-wise one: rowwise_adagrad.
decayed: Whether weight decay applies, for each table.
table_names: What the user calls each table; for messages.
)doc");

}  // namespace
}  // namespace splitop
