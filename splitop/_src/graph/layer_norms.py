"""Recognising layer normalization, as Keras has TensorFlow compute it."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from splitop._src.graph import reach
from splitop._src.graph.devices import is_replaceable
from splitop._src.graph.expressions import Input, matches, output_of

_X = Input("x")
_MEAN = output_of("Mean", _X, Input("axes of mean"))
_DIFFERENCE = output_of("SquaredDifference", _X, output_of("StopGradient", _MEAN))
_VARIANCE = output_of("Mean", _DIFFERENCE, Input("axes of variance"))
_INVERSE = output_of(
    "Mul", output_of("Rsqrt", output_of("AddV2", _VARIANCE, Input("epsilon"))), Input("gamma")
)
_SHIFT = output_of("AddV2", output_of("Mul", output_of("Neg", _MEAN), _INVERSE), Input("beta"))
_NORM = output_of("AddV2", output_of("Mul", _X, _INVERSE), _SHIFT)


@dataclasses.dataclass(frozen=True, eq=False)
class LayerNorm:
    """A layer normalization over the last dimension.

    Attributes:
        x: Its input, [..., width].
        gamma: [width].
        beta: [width].
        epsilon: A scalar.
        y: Its output.
        ops: The operations between these, that of y included.
    """

    x: Any
    gamma: Any
    beta: Any
    epsilon: Any
    y: Any
    ops: frozenset[Any]


def match_layer_norm(op: Any) -> LayerNorm | None:
    """The layer normalization whose result an operation on a CPU returns, or None."""
    if op.type != "AddV2" or op.outputs[0].dtype not in (tf.float32, tf.float64):
        return None
    for found in matches(_NORM, op.outputs[0]):
        x, epsilon = found.inputs["x"], found.inputs["epsilon"]
        shapes = [found.inputs[key] for key in ("gamma", "beta")]
        gamma, beta = (_row(tensor, x) for tensor in shapes)
        axes = [found.inputs[f"axes of {what}"] for what in ("mean", "variance")]
        if (
            gamma is not None
            and beta is not None
            and epsilon.shape.rank == 0
            and all(_is_last(each, x.shape.rank) for each in axes)
            and all(each.get_attr("keep_dims") for each in found.ops if each.type == "Mean")
            and all(reach.is_plain(each) and is_replaceable(each) for each in found.ops)
        ):
            between = [tensor.op for tensor in shapes if tensor.op.type == "Reshape"]
            return LayerNorm(x, gamma, beta, epsilon, op.outputs[0], found.ops.union(between))
    return None


def _row(tensor: Any, x: Any) -> Any | None:
    """The vector, as long as a row of x, that a tensor is, or is a shape of; else None."""
    if not x.shape.rank or not x.shape[-1] or not tensor.shape.rank:
        return None
    if tensor.shape.as_list() != [1] * (tensor.shape.rank - 1) + [x.shape[-1]]:
        return None
    if tensor.shape.rank == 1:
        return tensor
    # One of more dimensions than x would give y more, too.
    is_shape = tensor.op.type == "Reshape" and tensor.op.inputs[0].shape.rank == 1
    return tensor.op.inputs[0] if is_shape and tensor.shape.rank <= x.shape.rank else None


def _is_last(axes: Any, rank: int) -> bool:
    value = tf.get_static_value(axes)
    return value is not None and value.ravel().tolist() in ([-1], [rank - 1])
