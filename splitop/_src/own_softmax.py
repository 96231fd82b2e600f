"""The gradient of softmax by an op of splitop's own, which reads and writes a row once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.own_gradient_types import gradients_of_type

_NAME = "Splitop>Softmax"


def own_softmax_gradients(operations: Iterable[Any]) -> contextlib.AbstractContextManager[None]:
    """Has tf.gradients make the gradients of these operations, where they are a CPU's softmax."""
    return gradients_of_type(_NAME, (op for op in operations if op.type == "Softmax"))


@tf.RegisterGradient(_NAME)
def _gradient(op: Any, dy: Any) -> Any:
    """Adds the op `Splitop>SoftmaxGrad` (csrc/tf/softmax_op.cpp)."""
    return library.load().splitop_softmax_grad(dy=dy, y=op.outputs[0])


@tf.RegisterGradient("Splitop>SoftmaxGrad")
def _gradient_of_gradient(op: Any, d_dx: Any) -> list[Any]:
    dy, y = op.inputs
    along = tf.reduce_sum(dy * y, -1, keepdims=True)
    d_along = tf.reduce_sum(d_dx * y, -1, keepdims=True)
    return [(d_dx - d_along) * y, d_dx * (dy - along) - d_along * dy]
