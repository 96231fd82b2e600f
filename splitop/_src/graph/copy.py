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
    """The same value from the same inputs, but not the same tensor.

    A value that is fed for `tensor` does not reach it. Where computing it again might give
    another value (a random op), `tensor` itself.
    """
    op = tensor.op
    if op.op_def.is_stateful:
        return tensor
    copy = copy_op(op, op.inputs, op.control_inputs, f"{op.name}_recomputed")
    return copy.outputs[tensor.value_index]
