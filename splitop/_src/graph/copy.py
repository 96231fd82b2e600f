"""Copies of operations, on other inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def copy_op(op: Any, inputs: Sequence[Any], control_inputs: Sequence[Any], name: str) -> Any:
    """Adds the same operation to the same graph, with other inputs."""
    with tf.control_dependencies(control_inputs), tf.device(op.device):
        copy = op.graph.create_op(
            op.type,
            list(inputs),
            [tensor.dtype.base_dtype for tensor in op.outputs],
            name=name,
            attrs=dict(op.node_def.attr),
            op_def=op.op_def,
        )
    for old, new in zip(op.outputs, copy.outputs, strict=True):
        new.set_shape(old.shape)
    return copy


def recomputed(tensor: Any) -> Any:
    """The same value from the same inputs, but out of reach of a value fed for `tensor`.

    Mostly another tensor. Where the operation can't be copied (it is random, say, or calls a
    function, whose gradient belongs to the call), `tensor` itself, and TensorFlow refuses to
    feed it from now on.
    """
    op = tensor.op
    calls_function = any(attribute.type == "func" for attribute in op.op_def.attr)
    if op.op_def.is_stateful or calls_function:
        op.graph.prevent_feeding(tensor)
        return tensor
    copy = copy_op(op, op.inputs, op.control_inputs, f"{op.name}_recomputed")
    return copy.outputs[tensor.value_index]
