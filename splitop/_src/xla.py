"""Inside jit_compile=True: checks and an order that XLA keeps.

XLA drops assertions and control dependencies. What it keeps is that an operation comes after what
it takes, so that both become values here.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from splitop._src import library
from splitop._src.graph import reach

# The handlers for CUDA are compiled, but have never run (docs/gpu.md): nobody gets them unasked.
GPU_VARIABLE = "SPLITOP_XLA_GPU"

# Their output is the variable's own value.
_READS = frozenset({"Identity", "ReadVariableOp", "Reshape"})


@dataclasses.dataclass(frozen=True, eq=False)
class Check:
    """A condition on which a step fails if it does not hold.

    Attributes:
        condition: A boolean scalar.
        data: The message: texts, each but the last one followed by integers, a scalar or a vector.
    """

    condition: tf.Tensor
    data: tuple[Any, ...]

    def operation(self) -> tf.Operation:
        """Adds the operation that fails; what it guards has to wait for it."""
        return tf.raw_ops.Assert(condition=self.condition, data=self.data, summarize=16)


def in_xla(graph: Any) -> bool:
    """Whether XLA compiles a graph as a whole, as with jit_compile=True."""
    return bool(control_flow_util.GraphOrParentsInXlaContext(graph))


def gpu_reason() -> str | None:
    """Why the ops are not used inside XLA on a GPU, or None."""
    if os.environ.get(GPU_VARIABLE) == "1":
        return None
    return (
        "inside jit_compile=True on a GPU the op is experimental: it has never run there. "
        f"{GPU_VARIABLE}=1 turns it on"
    )


def passed(tensor: Any, checks: Sequence[Check]) -> Any:
    """Inside XLA, a tensor that is there only if the checks hold.

    On GPUs only what XLA knows when it compiles is checked; without the XLA library nothing is.
    """
    if not checks or library.xla_reason() is not None:
        return tensor
    for check in checks:
        tensor = library.load_xla().splitop_check(
            tensor=tensor,
            condition=check.condition,
            numbers=[tf.cast(number, tf.int64) for number in check.data[1::2]],
            messages=list(check.data[::2]),
        )
    return tensor


def after(tensor: Any, operations: Iterable[Any], given: Sequence[Any]) -> Any:
    """Inside XLA, a tensor that is there only after the operations have run.

    Args:
        tensor: A small tensor.
        operations: What has used the value of a variable that is written next.
        given: What else the op that writes takes: it waits for that in any case.
    """
    known = reach.ancestors([tensor, *given])
    before = [
        op.outputs[0]
        for op in dict.fromkeys(operations)
        if op.outputs and op not in known and op.type not in _READS
    ]
    if not before:
        return tensor
    return library.load_xla().splitop_after(tensor=tensor, before=before)
