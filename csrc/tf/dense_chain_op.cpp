// Registers the op Splitop>DenseChain: its signature, shape function and documentation.
#include "absl/status/status.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tf/dense_chain_attrs.h"
#include "tf/dense_chain_shapes.h"
#include "tf/input_shapes.h"

namespace splitop {
namespace {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;

absl::Status DenseChainShape(InferenceContext* context) {
  DenseChainAttrs attrs;
  TF_RETURN_IF_ERROR(ReadDenseChainAttrs(context, &attrs));
  InputShapes shapes;
  TF_RETURN_IF_ERROR(KnownInputShapes(context, attrs.resources, &shapes));
  DenseChainShapeCheck check(attrs, shapes);
  TF_RETURN_IF_ERROR(check.Run());
  if (!attrs.input_gradient) return absl::OkStatus();
  const DimensionHandle batch = context->MakeDim(check.dims().batch);
  const DimensionHandle inputs = context->MakeDim(check.dims().widths.back());
  context->set_output(0, context->Matrix(batch, inputs));
  return absl::OkStatus();
}

REGISTER_OP("Splitop>DenseChain")
    .Input("seed: T")
    .Input("layer_inputs: num_layer_inputs * T")
    .Input("references: num_references * T")
    .Input("kernel_copies: num_kernel_copies * T")
    .Input("kernels: num_layers * resource")
    .Input("biases: num_biases * resource")
    .Input("slots: num_slots * resource")
    .Input("hyper: V")
    .Input("conditions: num_conditions * bool")
    .Input("clips: num_clips * V")
    .Input("kernel_gradients: num_kernel_gradients * V")
    .Output("input_gradient: num_input_gradients * T")
    .Attr("T: {float, double, bfloat16, half}")
    .Attr("V: {float, double}")
    .Attr("num_layers: int >= 1")
    .Attr("num_layer_inputs: int >= 1")
    .Attr("num_references: int >= 0")
    .Attr("num_kernel_copies: int >= 0")
    .Attr("num_biases: int >= 0")
    .Attr("num_slots: int >= 0")
    .Attr("num_conditions: int >= 0")
    .Attr("num_clips: int >= 0")
    .Attr("num_kernel_gradients: int >= 0 = 0")
    .Attr("num_input_gradients: int >= 0")
    .Attr(
        "activations: list({'linear', 'relu', 'relu6', 'leaky_relu', 'elu', 'selu', 'tanh', "
        "'sigmoid', 'softplus', 'silu', 'gelu'}) >= 1")
    .Attr("alphas: list(float) >= 1")
    .Attr("use_bias: list(bool) >= 1")
    .Attr("rule: string")
    .Attr("decayed: list(bool) >= 1")
    .Attr("forward: bool = false")
    .Attr("layer_names: list(string) >= 1")
    .Attr("seed_name: string")
    .SetIsStateful()
    .SetShapeFn(DenseChainShape)
    .Doc(R"doc(
The seeded backward pass of a chain of dense layers, and the optimizer's update, in one op.

Layer l, counted from the top (next to the intermediate vector) down, has computed
z_l = x_l W_l + b_l and y_l = act_l(z_l), and its input x_l is the output y_(l+1) of the layer
below. Given the seed dL/dy_0, this op works out the gradients of all kernels and biases and
updates them in place, with the optimizer's slots, by the update rule. The gradient for the layer
below is taken from a kernel's value before its update. No kernel's gradient exists as a whole
tensor, unless it is given.

All inputs are checked before anything is written: after an error every variable and slot is as
it was, unless the device itself fails in the middle, which the error then says. The variables
stay locked, in the order of their addresses, from the checks to the end; a tensor that was read
from a variable before keeps its value. The result is the same, bit for bit, from run to run, and
on the CPU whatever the number of threads.

In mixed precision T has 16 bits and V is float: gradients are summed up in float, and the
variables are updated in float.

With forward, the op first runs the forward pass itself, from the input of the bottom layer and the
variables' values from before their update; it returns nothing of it.

seed: dL/dy of the top layer. Shape [batch, outputs of the top layer].
layer_inputs: x of each layer, from the top down; with forward, that of the bottom layer only. Shape
  [batch, inputs of the layer]; at least one row.
references: For each layer that is not linear, in layer order, what the gradient of its activation
  reads; none with forward: its output y (relu, relu6, elu, selu, tanh, sigmoid) or its input z (relu, relu6,
  leaky_relu, softplus, silu, gelu). Shape [batch, outputs of the layer].
kernel_copies: In mixed precision, for each layer whose dL/dx is computed (all but the bottom one,
  and that one if num_input_gradients is 1), its kernel as the forward pass has read it. Shape
  [inputs of the layer, outputs of the layer].
kernels: The kernel W of each layer: a resource variable of type V and
  shape [inputs of the layer, outputs of the layer], or of more dimensions, of which the first ones
  have as many elements as the layer has inputs, and the others as many as it has outputs (not with
  forward). Updated.
biases: The bias b of each layer that has one, in layer order: a resource variable of type V and
  shape [outputs of the layer], or any other of so many elements. Updated.
slots: The optimizer's state, as resource variables of their variable's type and shape: those of
  the first kernel in the rule's order, those of the second kernel, and so on, then those of the
  biases. Updated.
hyper: The hyperparameters of the rule, in its order. Shape [how many it has]. In the memory of the
  op's device.
conditions: Where num_conditions is 1, whether the variables are updated; a scalar, without an input
  gradient. If not, the checks are all that is done.
clips: Where num_clips is 1, what the gradient of each variable is multiplied by, and then to which
  magnitude it is clipped. Shape [kernels and then biases, 2]. In the memory of the
  op's device; there is no GPU kernel for it.
kernel_gradients: Of each layer, dL/dW as Splitop>DenseSweep has kept it, or an empty tensor: then
  it is worked out. Shape [inputs of the layer, outputs of the layer]. There is no GPU kernel for
  it.
input_gradient: dL/dx of the bottom layer, where num_input_gradients is 1. Shape
  [batch, inputs of the bottom layer].
T: The type of seed, layer inputs, references, kernel copies and input gradient.
V: The type of variables, slots and hyper: T, or float where T has 16 bits.
num_layers: Layers of the chain.
num_layer_inputs: num_layers, or 1 with forward.
num_references: Layers that are not linear, or 0 with forward.
num_kernel_copies: Layers whose dL/dx is computed, in mixed precision; else 0.
num_biases: Layers that have a bias.
num_slots: Slots of all variables: (num_layers + num_biases) times those of the rule.
num_conditions: 1 if there is a condition, else 0.
num_clips: 1 if gradients are scaled and clipped, else 0.
num_kernel_gradients: num_layers, or 0: none is given.
num_input_gradients: 1 if the input gradient is wanted, else 0.
activations: The activation of each layer.
alphas: The slope of each layer that is leaky_relu for negative inputs; not read for the others.
use_bias: Whether each layer has a bias.
rule: The update rule, one of those in splitop/update_rule.h that are not row-wise, which has their
  slots, hyperparameters and maths: sgd, momentum, adam, amsgrad, adagrad, rmsprop, rmsprop_momentum,
  rmsprop_centered, rmsprop_centered_momentum, adadelta, adamax, nadam, ftrl or lion.
decayed: Whether weight decay applies, for each kernel, then for each bias.
forward: Whether the op runs the forward pass. Not in mixed precision; there is no GPU kernel for it.
layer_names: What the user calls the kernel of each layer; for messages.
seed_name: What the user calls the seed; for messages.
)doc");

}  // namespace
}  // namespace splitop
