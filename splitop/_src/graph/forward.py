"""Recognising the forward pass of a chain of dense layers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from splitop._src.graph import reach
from splitop._src.graph.activations import Activation
from splitop._src.graph.expressions import Input, find, output_of
from splitop._src.graph.layers import DenseLayer

# The fused op's name of an activation -> TensorFlow's operation.
_OPS = {
    "relu": "Relu",
    "relu6": "Relu6",
    "leaky_relu": "LeakyRelu",
    "elu": "Elu",
    "selu": "Selu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
}

_Z = Input("z")

# What TensorFlow composes the others of: z * sigmoid(z), z / 2 * erfc(-z / sqrt(2)).
_EXPRESSIONS = {
    "silu": (
        output_of("Mul", _Z, output_of("Sigmoid", output_of("Mul", 1.0, _Z))),
        output_of("Mul", _Z, output_of("Sigmoid", _Z)),
    ),
    "gelu": (
        output_of(
            "Mul",
            output_of("Mul", 0.5, _Z),
            output_of("Erfc", output_of("Mul", output_of("Neg", _Z), math.sqrt(0.5))),
        ),
    ),
}

# Their gradient reads the output; that of the others reads the input.
_READ_OUTPUT = frozenset({"relu", "relu6", "elu", "selu", "tanh", "sigmoid"})


@dataclasses.dataclass(frozen=True, eq=False)
class Forward:
    """The operations that compute what a chain's backward pass reads.

    Attributes:
        ops: Products, sums and activations: all between the bottom layer's x and the top.
        reads: Those that read the variables.
    """

    ops: frozenset[Any]
    reads: frozenset[Any]


def match_forward(chain: Sequence[DenseLayer], handle: Callable[[int], Any]) -> Forward | None:
    """The forward pass of a chain, if all of it is act(x·W + b) on matrices.

    Args:
        chain: The layers, from the top down.
        handle: Gives the handle of a variable, by its index.
    """
    walk = _Walk(handle)
    y = None
    for layer in chain:
        if not walk.takes(layer, y):
            return None
        y = layer.x
    if not all(reach.is_plain(op) for op in walk.ops | walk.reads):
        return None
    return Forward(frozenset(walk.ops), frozenset(walk.reads))


class _Walk:
    """Collects operations on the way from the outputs of layers to their inputs."""

    def __init__(self, handle: Callable[[int], Any]):
        self.ops: set[Any] = set()
        self.reads: set[Any] = set()
        self._handle = handle

    def takes(self, layer: DenseLayer, y: Any | None) -> bool:
        """Whether a layer's forward pass is known; `y`: its output, where the layer above reads it.

        Of a linear layer at the top nothing is read.
        """
        if layer.others or layer.x.shape.rank != 2:
            return False
        if layer.activation is None:
            return y is None or self._takes_sum(layer, y)
        z = self._before_activation(layer.activation, y)
        return z is not None and self._takes_sum(layer, z)

    def _before_activation(self, activation: Activation, y: Any | None) -> Any | None:
        """The activation's input; None if its gradient or the layer above reads something else."""
        reference = self._named(activation.reference)
        if activation.kind in _READ_OUTPUT:
            if y is not None and self._named(y) is not reference:
                return None
            return self._input_of(activation, reference)
        if y is not None and self._input_of(activation, self._named(y)) is not reference:
            return None
        return reference

    def _input_of(self, activation: Activation, y: Any) -> Any | None:
        """What an activation's output was computed from; None if it is no such output."""
        op = y.op
        if activation.kind in _OPS:
            if op.type != _OPS[activation.kind]:
                return None
            if activation.kind == "leaky_relu" and op.get_attr("alpha") != activation.alpha:
                return None
            self.ops.add(op)
            return self._named(op.inputs[0])
        for expression in _EXPRESSIONS.get(activation.kind, ()):
            found = find(expression, y)
            if found is not None:
                self.ops |= found.ops
                return self._named(found.inputs["z"])
        return None

    def _takes_sum(self, layer: DenseLayer, z: Any) -> bool:
        """Whether z is x·W + b, or x·W of a layer without a bias."""
        op = self._named(z).op
        if layer.bias is None:
            return self._takes_product(layer, op)
        if op.type not in ("BiasAdd", "Add", "AddV2") or not self._reads(op.inputs[1], layer.bias):
            return False
        if op.inputs[1].shape.as_list() != [layer.outputs]:
            return False
        self.ops.add(op)
        return self._takes_product(layer, self._named(op.inputs[0]).op)

    def _takes_product(self, layer: DenseLayer, op: Any) -> bool:
        if op.type != "MatMul" or op.get_attr("transpose_a") or op.get_attr("transpose_b"):
            return False
        if self._named(op.inputs[0]) is not self._named(layer.x):
            return False
        self.ops.add(op)
        return self._reads(op.inputs[1], layer.kernel)

    def _reads(self, tensor: Any, variable: int) -> bool:
        """Whether a tensor is the value of a variable."""
        read = self._named(tensor).op
        if read.type != "ReadVariableOp" or read.inputs[0] is not self._handle(variable):
            return False
        self.reads.add(read)
        return True

    def _named(self, tensor: Any) -> Any:
        """The tensor that `tensor` is another name of."""
        while tensor.op.type in ("Identity", "IdentityN"):
            self.ops.add(tensor.op)
            tensor = tensor.op.inputs[tensor.value_index]
        return tensor
