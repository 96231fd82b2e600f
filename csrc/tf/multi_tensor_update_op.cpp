// Registers the op Splitop>MultiTensorUpdate: its signature, shape function and documentation.
#include "absl/status/status.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tf/input_shapes.h"
#include "tf/multi_tensor_update_attrs.h"

namespace splitop {
namespace {

absl::Status MultiTensorUpdateShape(tensorflow::shape_inference::InferenceContext* context) {
  MultiTensorUpdateAttrs attrs;
  TF_RETURN_IF_ERROR(ReadMultiTensorUpdateAttrs(context, &attrs));
  InputShapes shapes;
  TF_RETURN_IF_ERROR(KnownInputShapes(context, attrs.resources, &shapes));
  return CheckMultiTensorUpdateShapes(attrs, shapes);
}

REGISTER_OP("Splitop>MultiTensorUpdate")
    .Input("gradients: num_variables * T")
    .Input("variables: num_variables * resource")
    .Input("slots: num_slots * resource")
    .Input("hyper: T")
    .Input("conditions: num_conditions * bool")
    .Input("clips: num_clips * T")
    .Attr("T: {float, double}")
    .Attr("num_variables: int >= 1")
    .Attr("num_slots: int >= 0")
    .Attr("num_conditions: int >= 0")
    .Attr("num_clips: int >= 0")
    .Attr("rule: string")
    .Attr("decayed: list(bool) >= 1")
    .Attr("variable_names: list(string) >= 1")
    .SetIsStateful()
    .SetShapeFn(MultiTensorUpdateShape)
    .Doc(R"doc(
The optimizer's update of many variables whose gradients are there, in one op.

All inputs are checked before anything is written: after an error every variable and slot is as
it was, unless the device itself fails in the middle, which the error then says. The variables
stay locked, in the order of their addresses, from the checks to the end; a tensor that was read
from a variable before keeps its value. The result is the same, bit for bit, from run to run, and
on the CPU whatever the number of threads.

gradients: The gradient of each variable, in its shape.
variables: Resource variables of type T and any shape. Updated.
slots: The optimizer's state, as resource variables of their variable's type and shape, or of a
  row-wise rule with an element for each row, of the shape of the first dimension: those of the
  first variable in the rule's order, those of the second, and so on. Updated.
hyper: The hyperparameters of the rule, in its order. In the memory of the op's device.
conditions: Where num_conditions is 1, whether the variables are updated; a scalar. If not, the
  checks are all that is done.
clips: Where num_clips is 1, what the gradient of each variable is multiplied by, and then to which
  magnitude it is clipped. Shape [variables, 2]. In the memory of the op's device.
T: The type of all gradients, variables, slots and hyperparameters.
num_variables: How many variables there are.
num_slots: Slots of all variables: num_variables times those of the rule.
num_conditions: 1 if there is a condition, else 0.
num_clips: 1 if gradients are scaled and clipped, else 0.
rule: The update rule, as in Splitop>DenseChain, or a row-wise one, rowwise_adagrad, which has no GPU
  kernel.
decayed: Whether weight decay applies, for each variable.
variable_names: What the user calls each variable; for messages.
)doc");

}  // namespace
}  // namespace splitop
