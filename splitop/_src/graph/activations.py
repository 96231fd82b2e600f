"""Recognising the gradients of activations that the fused op can absorb."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from splitop._src.graph.expressions import Found, Input, Op, Unbroadcast, find, output_of
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


_UPSTREAM, _Z = Input("upstream"), Input("z")


def _silu() -> Op:
    """The gradient of tf.nn.silu, which works out the sigmoid again."""
    z = output_of("Mul", 1.0, _Z)  # by beta
    sigmoid = output_of("Sigmoid", z)
    slope = output_of("AddV2", 1.0, output_of("Mul", z, output_of("Sub", 1.0, sigmoid)))
    return output_of("Mul", _UPSTREAM, output_of("Mul", sigmoid, slope))


def _silu_as_product() -> Op:
    """The gradient of z * tf.sigmoid(z)."""
    sigmoid = output_of("Sigmoid", _Z)
    factors = (_Z, sigmoid)
    through_sigmoid = Unbroadcast(output_of("Mul", _UPSTREAM, _Z), factors)
    return output_of(
        "AddN",
        Unbroadcast(output_of("Mul", _UPSTREAM, sigmoid), factors),
        output_of("SigmoidGrad", sigmoid, through_sigmoid),
    )


def _gelu() -> Op:
    """The gradient of tf.nn.gelu, z / 2 * erfc(-z / sqrt(2))."""
    half, root = output_of("Mul", 0.5, _Z), math.sqrt(0.5)
    scaled = output_of("Mul", output_of("Neg", _Z), root)
    erfc = output_of("Erfc", scaled)
    through_half = Unbroadcast(output_of("Mul", _UPSTREAM, erfc), (half, erfc))
    through_erfc = Unbroadcast(output_of("Mul", _UPSTREAM, half), (half, erfc))
    bell = output_of("Exp", output_of("Neg", output_of("Square", scaled)))
    through_scaled = output_of("Mul", output_of("Mul", through_erfc, -2 / math.sqrt(math.pi)), bell)
    return output_of(
        "AddN",
        output_of("Mul", 0.5, through_half),
        output_of("Neg", output_of("Mul", through_scaled, root)),
    )


# The op's name of an activation, and a gradient that TensorFlow composes for it.
_COMPOSED_GRADIENTS = (
    ("softplus", output_of("Mul", _UPSTREAM, output_of("Sigmoid", _Z))),
    ("silu", _silu()),
    ("silu", _silu_as_product()),
    ("gelu", _gelu()),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Activation:
    """The gradient of an activation, as found in a gradient graph.

    Attributes:
        kind: The fused op's name of it.
        alpha: Slope of leaky_relu, else 0.
        reference: What the gradient reads: the activation's output or its input.
        upstream: The gradient that comes in, dL/dy.
        ops: The gradient ops that are taken over: all between `upstream` and dL/dz.
    """

    kind: str
    alpha: float
    reference: Any
    upstream: Any
    ops: frozenset[Any]


def match_activation(gradients: GradientGraph, output_gradient: Any) -> Activation | None:
    """The activation whose gradient op made `output_gradient`, if it is a known one."""
    made_by = output_gradient.op
    if made_by not in gradients:
        return None
    if made_by.type not in _GRADIENT_OPS:
        return _match_composed(gradients, output_gradient)
    if made_by.control_inputs:
        return None
    kind, upstream, reference = _GRADIENT_OPS[made_by.type]
    alpha = made_by.get_attr("alpha") if kind == "leaky_relu" else 0.0
    reads, comes_in = made_by.inputs[reference], made_by.inputs[upstream]
    return Activation(kind, alpha, reads, comes_in, frozenset({made_by}))


def _match_composed(gradients: GradientGraph, output_gradient: Any) -> Activation | None:
    for kind, expression in _COMPOSED_GRADIENTS:
        found = find(expression, output_gradient)
        if found is None or not _stands_alone(gradients, found, output_gradient.op):
            continue
        z, ops = found.inputs["z"], frozenset(op for op in found.ops if op in gradients)
        # A product with any other sigmoid, that of a gate for instance, is no activation.
        if kind != "softplus" or (ops == found.ops and _has_softplus(z)):
            return Activation(kind, 0.0, z, found.inputs["upstream"], ops)
    return None


def _stands_alone(gradients: GradientGraph, found: Found, last: Any) -> bool:
    """Whether nothing waits in an expression, and nothing but its last op is used elsewhere.

    TensorFlow has some ops wait for the upstream gradient, so that they do not run in the forward
    pass already; the fused op comes after that in any case.
    """
    inside = found.ops | {found.inputs["upstream"].op}
    return all(
        inside.issuperset(op.control_inputs)
        and (op is last or found.ops.issuperset(_live_users(gradients, op)))
        for op in found.ops
    )


def _live_users(gradients: GradientGraph, op: Any) -> list[Any]:
    """The live ops that use the outputs of a gradient op."""
    if op not in gradients:
        return []
    return [user for tensor in op.outputs for user in tensor.consumers() if user in gradients.live]


def _has_softplus(z: Any) -> bool:
    return any(user.type == "Softplus" for user in z.consumers())
