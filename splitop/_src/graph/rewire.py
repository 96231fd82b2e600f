"""Giving the users of a tensor another one, in a graph that has not run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from splitop._src.graph.copy import calls_functions


def give_instead(old: Any, new: Any) -> None:
    """Has all operations that take `old` take `new`.

    But for those that call functions: these have the tensors that they take listed elsewhere, too.
    """
    for user in old.consumers():
        if calls_functions(user):
            continue
        for index, tensor in enumerate(user.inputs):
            if tensor is old:
                user._update_input(index, new)


def is_taken_by_functions(tensor: Any) -> bool:
    """Whether an operation that calls functions takes a tensor."""
    return any(calls_functions(user) for user in tensor.consumers())


@contextlib.contextmanager
def beside(op: Any) -> Iterator[None]:
    """Adds operations that wait for nothing, on the device of an operation.

    What the caller waits for may need what they are to stand for.
    """
    with (
        op.graph.control_dependencies(None),
        op.graph.colocate_with(None, ignore_existing=True),
        op.graph.device(op.device),
    ):
        yield
