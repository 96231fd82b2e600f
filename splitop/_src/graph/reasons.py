"""Why the fused op can't take over a variable's gradient, in the user's words."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.graph.dense import producer, summands, uncast
from splitop._src.graph.devices import device_reason, may_be_on_gpu
from splitop._src.xla import gpu_reason, in_xla

FUSED_DTYPES = (tf.float32, tf.float64)

_LOOPS = frozenset({"While", "StatelessWhile", "Exit", "NextIteration", "LoopCond"})
_BRANCHES = frozenset({"If", "StatelessIf", "Case", "StatelessCase", "Merge", "Switch"})
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


def graph_reason(graph: Any, gradient_ops: Any) -> str | None:
    """Why nothing in this graph can be fused, or None."""
    if in_xla(graph):
        cause = library.xla_reason()
        if cause is not None:
            return f"inside jit_compile=True. {cause}"
    if any(map(_in_tf1_control_flow, gradient_ops)):
        return (
            "TF1 control flow in the gradient graph: call "
            "tf.compat.v1.enable_control_flow_v2() before building it"
        )
    return None


def _in_tf1_control_flow(op: Any) -> bool:
    context = op._get_control_flow_context()
    return context is not None and not context.IsXLAContext()


def variable_reason(variable: Any, graph: Any, may_skip: bool) -> str | None:
    """Why a variable can't be updated by the fused op, whatever its gradient; or None.

    `may_skip`: whether the step is left out if the gradients are not finite.
    """
    if variable.dtype.base_dtype not in FUSED_DTYPES:
        return f"its dtype is {variable.dtype.base_dtype.name}; fused are float32 and float64"
    if not variable.shape.is_fully_defined():
        return f"its shape {variable.shape} is not fully known"
    cause = device_reason(variable)
    if cause is None and in_xla(graph) and may_be_on_gpu(variable):
        return gpu_reason() or _skip_reason(may_skip)
    return cause


def _skip_reason(may_skip: bool) -> str | None:
    if not may_skip:
        return None
    return (
        "inside jit_compile=True on a GPU the host, which would leave out the step, does not wait "
        "for whether the gradients are finite"
    )


def several_places(gradient: Any) -> str:
    """Why a sum of gradients is not fused, if its terms are not all of one dense layer."""
    terms = len(summands(uncast(gradient)))
    return (
        f"it is used in more than one place: its gradient is a sum of {terms} terms, and they are "
        "not all those of one dense layer"
    )


def gradient_reason(gradient: Any, variable: Any) -> str | None:
    """Why the backward pass to a gradient of this kind can't be fused, or None."""
    product = uncast(gradient)
    op = producer(product)
    if op.type == "AddN" and product.dtype != variable.dtype:
        return several_places(gradient)
    if op.type in _LOOPS:
        return f"it is used inside a loop ({op.type})"
    if op.type in _BRANCHES:
        return f"it is used inside a conditional branch ({op.type})"
    if op.type in _CALLS:
        return f"it is used inside a nested tf.function ({op.type})"
    if op.type == "Cast":
        return f"its layer computes in {op.inputs[0].dtype.name}"
    return None
