"""Operations whose gradient tf.gradients is to take from splitop for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from splitop._src.graph import reach
from splitop._src.graph.devices import XLA_SCOPE, is_on_cpu

_GRADIENT = "_gradient_op_type"  # what tf.gradients asks for before the operation's type


@contextlib.contextmanager
def gradients_of_type(name: str, operations: Iterable[Any]) -> Iterator[None]:
    """Has tf.gradients take the gradient registered as `name`, of those that run on CPUs.

    But for operations that have another gradient, or that XLA compiles.
    """
    theirs = [op for op in operations if _may_have_another(op)]
    try:
        for op in theirs:
            op._set_attr(_GRADIENT, tf.compat.v1.AttrValue(s=name.encode()))
        yield
    finally:
        for op in theirs:
            op._clear_attr(_GRADIENT)


def _may_have_another(op: Any) -> bool:
    is_known = op.outputs[0].dtype in (tf.float32, tf.float64)
    is_free = XLA_SCOPE not in op.node_def.attr and _GRADIENT not in op.node_def.attr
    return is_known and is_free and reach.is_plain(op) and is_on_cpu(op)
