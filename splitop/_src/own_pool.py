"""The gradient of max pooling by an op of splitop's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.own_gradient_types import gradients_of_type

_NAME = "Splitop>MaxPool"
_FEWEST_CHANNELS = 8  # of fewer, large windows that overlap are faster by TensorFlow's


def own_pool_gradients(operations: Iterable[Any]) -> contextlib.AbstractContextManager[None]:
    """Has tf.gradients make the gradients of these operations, where they pool images on a CPU."""
    return gradients_of_type(_NAME, (op for op in operations if _is_known(op)))


def _is_known(op: Any) -> bool:
    if op.type != "MaxPool":
        return False
    over_images = op.get_attr("ksize")[::3] == op.get_attr("strides")[::3] == [1, 1]
    is_padded = op.get_attr("padding") in (b"SAME", b"VALID")
    x = op.inputs[0].shape
    is_wide = x.rank == 4 and (x[3] or 0) >= _FEWEST_CHANNELS
    return over_images and is_padded and is_wide and op.get_attr("data_format") == b"NHWC"


def _attributes(op: Any) -> dict[str, Any]:
    return {
        "ksize": list(op.get_attr("ksize")),
        "strides": list(op.get_attr("strides")),
        "padding": op.get_attr("padding").decode(),
    }


@tf.RegisterGradient(_NAME)
def _gradient(op: Any, dy: Any) -> Any:
    """Adds the op `Splitop>MaxPoolGrad` (csrc/tf/max_pool_op.cpp)."""
    (x,), (y,) = op.inputs, op.outputs
    return library.load().splitop_max_pool_grad(x=x, y=y, dy=dy, **_attributes(op))


@tf.RegisterGradient("Splitop>MaxPoolGrad")
def _gradient_of_gradient(op: Any, d_dx: Any) -> list[Any]:
    x, y, _ = op.inputs
    d_dy = tf.raw_ops.MaxPoolGradGrad(orig_input=x, orig_output=y, grad=d_dx, **_attributes(op))
    return [tf.zeros_like(x), tf.zeros_like(y), d_dy]
