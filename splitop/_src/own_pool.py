"""The gradient of max pooling, and of relu before it, by an op of splitop's own."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator, Sequence
from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.graph.epilogues import LINEAR, RELU
from splitop._src.own_gradient_types import gradients_of_type

_POOL = "Splitop>MaxPool"  # these two are names of gradients, not of operations
_RELU = "Splitop>ReluBeforeMaxPool"
_GRADIENT = "Splitop>MaxPoolGrad"
_FEWEST_CHANNELS = 8  # of fewer, large windows that overlap are faster by TensorFlow's


@contextlib.contextmanager
def own_pool_gradients(operations: Sequence[Any], ends: Container[Any]) -> Iterator[None]:
    """Has tf.gradients make some gradients of pooling, and of relu before it.

    Args:
        operations: Those among them that pool images on a CPU are meant.
        ends: References to where the gradients end: there, that of pooling alone may be wanted.
    """
    pools = [op for op in operations if _is_known(op)]
    pooled = {op.inputs[0].ref(): op.inputs[0].op for op in pools}
    relus = [op for ref, op in pooled.items() if op.type == "Relu" and ref not in ends]
    with gradients_of_type(_POOL, pools), gradients_of_type(_RELU, relus):
        yield


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


def _emit(op: Any, x: Any, y: Any, dy: Any, activation: str) -> Any:
    """Adds the op `Splitop>MaxPoolGrad` (csrc/tf/max_pool_op.cpp)."""
    return library.load().splitop_max_pool_grad(
        x=x, y=y, dy=dy, activation=activation, **_attributes(op)
    )


@tf.RegisterGradient(_POOL)
def _gradient_of_pool(op: Any, dy: Any) -> Any:
    return _emit(op, op.inputs[0], op.outputs[0], dy, LINEAR)


@tf.RegisterGradient(_RELU)
def _gradient_of_relu(op: Any, dy: Any) -> Any:
    """Where nothing but pooling takes relu's result, one op makes both gradients."""
    (y,) = op.outputs
    if tf.is_symbolic_tensor(dy) and dy.op.type == _GRADIENT and dy.op.inputs[0] is y:
        x, pooled, d_pooled = dy.op.inputs
        return _emit(dy.op, x, pooled, d_pooled, RELU)
    return tf.raw_ops.ReluGrad(gradients=tf.convert_to_tensor(dy), features=y)


@tf.RegisterGradient(_GRADIENT)
def _gradient_of_gradient(op: Any, d_dz: Any) -> list[Any]:
    x, y, _ = op.inputs
    if op.get_attr("activation") == RELU.encode():
        d_dz = tf.raw_ops.ReluGrad(gradients=d_dz, features=x)
    d_dy = tf.raw_ops.MaxPoolGradGrad(orig_input=x, orig_output=y, grad=d_dz, **_attributes(op))
    return [tf.zeros_like(x), tf.zeros_like(y), d_dy]
