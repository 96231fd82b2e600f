"""Recognising the gradients of activations that the fused op can absorb."""

from __future__ import annotations

import dataclasses
from typing import Any

from splitop._src.graph.gradient_graph import GradientGraph

# Gradient op -> (the op's name of the activation, index of the incoming gradient, index of
# the tensor it reads), as in TensorFlow's nn_grad.py and math_grad.py.
_GRADIENT_OPS = {
    "ReluGrad": ("relu", 0, 1),
    "Relu6Grad": ("relu6", 0, 1),
    "LeakyReluGrad": ("leaky_relu", 0, 1),
    "EluGrad": ("elu", 0, 1),
    "SeluGrad": ("selu", 0, 1),
    "SoftplusGrad": ("softplus", 0, 1),
    "TanhGrad": ("tanh", 1, 0),
    "SigmoidGrad": ("sigmoid", 1, 0),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Activation:
    """The gradient of an activation, as found in a gradient graph.

    Attributes:
        kind: The fused op's name of it.
        alpha: Slope of leaky_relu, else 0.
        reference: What the gradient reads: the activation's output or its input.
        upstream: The gradient that comes in, dL/dy.
        op: The op whose output is dL/dz.
    """

    kind: str
    alpha: float
    reference: Any
    upstream: Any
    op: Any


def match_activation(gradients: GradientGraph, output_gradient: Any) -> Activation | None:
    """The activation whose gradient op made `output_gradient`, if it is a known one."""
    op = output_gradient.op
    if op not in gradients or op.control_inputs:
        return None
    if op.type in _GRADIENT_OPS:
        kind, upstream, reference = _GRADIENT_OPS[op.type]
        alpha = op.get_attr("alpha") if kind == "leaky_relu" else 0.0
        return Activation(kind, alpha, op.inputs[reference], op.inputs[upstream], op)
    return _match_softplus(gradients, op)


def _match_softplus(gradients: GradientGraph, op: Any) -> Activation | None:
    """TensorFlow writes softplus' gradient as two ops: upstream * sigmoid(z)."""
    if op.type != "Mul":
        return None
    for upstream, factor in (op.inputs, reversed(op.inputs)):
        sigmoid = factor.op
        if sigmoid.type != "Sigmoid" or sigmoid not in gradients or sigmoid.control_inputs:
            continue
        z = sigmoid.inputs[0]
        # Any other product might broadcast.
        if not _same_shape(z, upstream) or not _same_shape(z, op.outputs[0]):
            continue
        if any(user.type == "Softplus" for user in z.consumers()):
            return Activation("softplus", 0.0, z, upstream, op)
    return None


def _same_shape(a: Any, b: Any) -> bool:
    """Whether two shapes are the same as far as they are known; the ranks have to be."""
    return (
        a.shape.rank is not None and a.shape.rank == b.shape.rank and list(a.shape) == list(b.shape)
    )
