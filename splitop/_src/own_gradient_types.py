"""Operations whose gradient tf.gradients is to take from splitop for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from splitop._src.graph import reach
from splitop._src.graph.devices import OTHER_GRADIENT, is_replaceable


@contextlib.contextmanager
def gradients_of_type(name: str, operations: Iterable[Any]) -> Iterator[None]:
    """Has tf.gradients take the gradient registered as `name`, which has a kernel on CPUs only."""
    theirs = [op for op in operations if has_kernel(op)]
    try:
        for op in theirs:
            op._set_attr(OTHER_GRADIENT, tf.compat.v1.AttrValue(s=name.encode()))
        yield
    finally:
        for op in theirs:
            op._clear_attr(OTHER_GRADIENT)


def has_kernel(op: Any) -> bool:
    """Whether an op of splitop's for CPUs, of the same types, may stand for an operation."""
    is_known = op.outputs[0].dtype in (tf.float32, tf.float64)
    return is_known and reach.is_plain(op) and is_replaceable(op)
