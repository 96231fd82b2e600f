"""Softmax and its gradient by ops of splitop's own, which read a row from memory once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.graph.rewire import beside
from splitop._src.own_gradient_types import gradients_of_type, has_kernel

# Of the op, and of the gradient that TensorFlow's softmax names for a while.
_NAME = "Splitop>Softmax"


def own_softmax_gradients(operations: Iterable[Any]) -> contextlib.AbstractContextManager[None]:
    """Has tf.gradients make the gradients of these operations, where they are a CPU's softmax."""
    return gradients_of_type(_NAME, (op for op in operations if op.type == "Softmax"))


def is_own_softmax(op: Any) -> bool:
    """Whether `emit_softmax` can do what an operation does."""
    return op.type == "Softmax" and has_kernel(op)


def emit_softmax(op: Any) -> Any:
    """Adds the op `Splitop>Softmax` (csrc/tf/softmax_op.cpp); returns its result."""
    with beside(op):
        result = library.load().splitop_softmax(x=op.inputs[0], name=op.name)
    result.set_shape(op.outputs[0].shape)
    return result


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
