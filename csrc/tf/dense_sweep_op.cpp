// Registers the op Splitop>DenseSweep: its signature, shape function and documentation.
#include "absl/status/status.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tf/dense_chain_shapes.h"
#include "tf/dense_sweep_attrs.h"
#include "tf/input_shapes.h"

namespace splitop {
namespace {

using tensorflow::shape_inference::InferenceContext;

absl::Status DenseSweepShape(InferenceContext* context) {
  DenseSweepAttrs attrs;
  TF_RETURN_IF_ERROR(ReadDenseSweepAttrs(context, &attrs));
  InputShapes shapes;
  TF_RETURN_IF_ERROR(KnownInputShapes(context, attrs.chain.resources, &shapes));
  DenseChainShapeCheck check(attrs.chain, shapes);
  TF_RETURN_IF_ERROR(check.Run());
  const auto batch = context->MakeDim(check.dims().batch);
  for (int l = 0; l < attrs.chain.num_layers(); ++l) {
    context->set_output(attrs.GradientOutput(l),
                        context->Matrix(batch, context->MakeDim(check.dims().widths[l])));
  }
  if (attrs.chain.input_gradient) {
    const auto inputs = context->MakeDim(check.dims().widths.back());
    context->set_output(attrs.InputGradientOutput(), context->Matrix(batch, inputs));
  }
  if (attrs.has_norms()) {
    context->set_output(attrs.NormsOutput(), context->Matrix(2, attrs.chain.num_layers()));
  }
  for (int l = 0; l < attrs.num_kernel_gradients; ++l) {
    const KernelGradientShape shape = GetKernelGradientShape(attrs, check.dims(), l);
    context->set_output(
        attrs.KernelGradientOutput(l),
        context->Matrix(context->MakeDim(shape.rows), context->MakeDim(shape.columns)));
  }
  return absl::OkStatus();
}

REGISTER_OP("Splitop>DenseSweep")
    .Input("seed: T")
    .Input("layer_inputs: num_layers * T")
    .Input("references: num_references * T")
    .Input("kernel_copies: num_kernel_copies * T")
    .Input("kernels: num_layers * resource")
    .Output("gradients: num_layers * T")
    .Output("input_gradient: num_input_gradients * T")
    .Output("squared_norms: num_squared_norms * double")
    .Output("kernel_gradients: num_kernel_gradients * V")
    .Attr("T: {float, double, bfloat16, half}")
    .Attr("V: {float, double}")
    .Attr("num_layers: int >= 1")
    .Attr("num_references: int >= 0")
    .Attr("num_kernel_copies: int >= 0")
    .Attr("num_input_gradients: int >= 0")
    .Attr("num_squared_norms: int >= 0")
    .Attr("num_kernel_gradients: int >= 0 = 0")
    .Attr("activations: list(string) >= 1")
    .Attr("alphas: list(float) >= 1")
    .Attr("norms: string")
    .Attr("layer_names: list(string) >= 1")
    .Attr("seed_name: string")
    .SetIsStateful()
    .SetShapeFn(DenseSweepShape)
    .Doc(R"doc(
The seeded backward pass of a chain of dense layers without the update, in one op.

For a step that has to know something of all gradients before it may write a variable: each layer
is afterwards updated by a Splitop>DenseChain of its own, with its gradient here as the seed and
without an activation. Layers and their inputs are those of Splitop>DenseChain. No kernel's
gradient exists as a whole tensor, but for those that are asked for and worth keeping.

The kernels stay locked while they are read. The result is the same, bit for bit, from run to run,
whatever the number of threads.

In mixed precision T has 16 bits and kernels are of float. Each G is rounded to T; norms and what
lies below are those of the rounded one, which the updates are given.

seed: dL/dy of the top layer. Shape [batch, outputs of the top layer].
layer_inputs: x of each layer, from the top down. Shape [batch, inputs of the layer]; at least
  one row.
references: For each layer that is not linear, in layer order, what the gradient of its activation
  reads. Shape [batch, outputs of the layer].
kernel_copies: In mixed precision, as for Splitop>DenseChain: what dL/dx is computed from.
kernels: The kernel W of each layer: a resource variable. Only read.
gradients: G = dL/dz of each layer. Shape [batch, outputs of the layer].
input_gradient: dL/dx of the bottom layer, where num_input_gradients is 1. Shape
  [batch, inputs of the bottom layer].
squared_norms: Where num_squared_norms is 1, the squared norms of the gradients of the kernels, then
  of the biases that the layers may have. Shape [2, num_layers].
kernel_gradients: Where they are asked for, the gradient of each kernel whose norm comes from the
  product xᵀG rather than from <xxᵀ, GGᵀ>, for its update, which would make the product again, if it
  takes no more memory than the layer's x and G. Shape [inputs of the layer, outputs of the layer];
  of the others [0, 0].
T: The type of seed, layer inputs, references, kernel copies, gradients and input gradient.
V: The type of kernels and their gradients: T, or float where T has 16 bits.
num_layers: Layers of the chain.
num_references: Layers that are not linear.
num_kernel_copies: Layers whose dL/dx is computed, in mixed precision; else 0.
num_input_gradients: 1 if the input gradient is wanted, else 0.
num_squared_norms: 0 if norms is none, else 1.
num_kernel_gradients: num_layers, with exact norms only, or 0: none is asked for.
activations: The activation of each layer.
alphas: The slope of each layer that is leaky_relu for negative inputs; not read for the others.
norms: none; exact; or bounds: upper bounds, which are finite only if all gradients are.
layer_names: What the user calls the kernel of each layer; for messages.
seed_name: What the user calls the seed; for messages.
)doc");

}  // namespace
}  // namespace splitop
