"""Copies of operations, on other inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def copy_op(op: Any, inputs: Sequence[Any], control_inputs: Sequence[Any], name: str) -> Any:
    """Adds the same operation to the current graph, with other inputs."""
    graph = tf.compat.v1.get_default_graph()
    attributes = dict(op.node_def.attr)
    if graph is not op.graph:
        attributes.pop("_class", None)  # The operations that it stands beside are not there.
        _take_functions(op, graph)
    with tf.control_dependencies(control_inputs), tf.device(op.device):
        copy = graph.create_op(
            op.type,
            list(inputs),
            [tensor.dtype.base_dtype for tensor in op.outputs],
            name=name,
            attrs=attributes,
            op_def=op.op_def,
        )
    for old, new in zip(op.outputs, copy.outputs, strict=True):
        new.set_shape(old.shape)
    return copy


def calls_functions(op: Any) -> bool:
    """Whether the operation runs functions: a call, a loop, a condition."""
    return any(attribute.type in ("func", "list(func)") for attribute in op.op_def.attr)


def recomputed(tensor: Any) -> Any:
    """The same value from the same inputs, but out of reach of a value fed for `tensor`.

    Mostly another tensor. Where the operation can't be copied (it is random, say, or ends a loop,
    or calls a function, whose gradient belongs to the call), `tensor` itself, and TensorFlow
    refuses to feed it from now on.
    """
    op = tensor.op
    if op.op_def.is_stateful or calls_functions(op) or _leaves_a_loop(op):
        op.graph.prevent_feeding(tensor)
        return tensor
    copy = copy_op(op, op.inputs, op.control_inputs, f"{op.name}_recomputed")
    return copy.outputs[tensor.value_index]


def _leaves_a_loop(op: Any) -> bool:
    """Whether it belongs to a loop or a condition of TF1's own control flow, as its end does."""
    return op._get_control_flow_context() is not op.graph._get_control_flow_context()


def _take_functions(op: Any, graph: Any) -> None:
    """Makes the functions that `op` runs known to another graph."""
    if calls_functions(op):
        for function in op.graph._functions.values():
            graph._add_function_recursive(function)
