"""Recognising convolutions, with a bias and an activation after them."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from splitop._src.graph import reach
from splitop._src.graph.devices import is_replaceable
from splitop._src.graph.epilogues import LINEAR, RELU


@dataclasses.dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution of images, [batch, rows, columns, channels].

    Attributes:
        convolution: TensorFlow's operation.
        bias: [filters]; None: nothing is added.
        activation: "linear" or "relu".
        y: The result.
        ops: The operations that make it of x, the filter and the bias.
    """

    convolution: Any
    bias: Any | None
    activation: str
    y: Any
    ops: frozenset[Any]

    @property
    def x(self) -> Any:
        """The images."""
        return self.convolution.inputs[0]

    @property
    def filter(self) -> Any:
        """[rows, columns, channels, filters]."""
        return self.convolution.inputs[1]


def match_convolution(op: Any, *, activated: bool) -> Convolution | None:
    """The convolution whose result an operation on a CPU returns, or None.

    Args:
        op: The operation. Of a convolution whose result only a bias is added to, it is the one that
            adds it.
        activated: Whether what follows may be an activation, too.
    """
    last, activation = op, LINEAR
    if activated and op.type == "Relu":
        last, activation = op.inputs[0].op, RELU
        if not _is_only_for(op, last):
            return None
    bias, convolution = None, last
    if last.type == "BiasAdd":
        bias, convolution = last.inputs[1], last.inputs[0].op
        if not _is_only_for(last, convolution):
            return None
    if not _is_known(convolution) or _goes_on(op, activated):
        return None
    if bias is not None and not _is_added_to_channels(last, convolution):
        return None
    ops = frozenset({op, last, convolution})
    if not all(reach.is_plain(each) and is_replaceable(each) for each in ops):
        return None
    return Convolution(convolution, bias, activation, op.outputs[0], ops)


def _is_known(op: Any) -> bool:
    """Whether the op of splitop's own makes what this one does."""
    if op.type != "Conv2D" or op.outputs[0].dtype not in (tf.float32, tf.float64):
        return False
    x, weights = (tensor.shape for tensor in op.inputs)
    if x.rank != 4 or not weights.is_fully_defined() or 0 in weights.as_list():
        return False
    # Of grouped convolutions the filter has fewer channels.
    return op.get_attr("data_format") == b"NHWC" and x[3] == weights[2]


def _is_added_to_channels(bias_add: Any, convolution: Any) -> bool:
    filters = convolution.inputs[1].shape[3]
    is_last = bias_add.get_attr("data_format") == b"NHWC"
    return is_last and bias_add.inputs[1].shape.as_list() == [filters]


def _is_only_for(user: Any, op: Any) -> bool:
    return len(op.outputs) == 1 and op.outputs[0].consumers() == [user]


def _goes_on(op: Any, activated: bool) -> bool:
    """Whether an operation's result is only the part of a larger match."""
    users = op.outputs[0].consumers()
    if len(users) != 1:
        return False
    (user,) = users
    adds_bias = op.type == "Conv2D" and user.type == "BiasAdd"
    activates = activated and op.type in ("Conv2D", "BiasAdd") and user.type == "Relu"
    return activates or (adds_bias and _is_added_to_channels(user, op))
