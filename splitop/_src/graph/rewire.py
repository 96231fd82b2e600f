"""Giving the users of a tensor another one, in a graph that has not run."""

from __future__ import annotations

from typing import Any

from splitop._src.graph.copy import calls_functions


def give_instead(old: Any, new: Any) -> None:
    """Has all operations that take `old` take `new`."""
    for user in old.consumers():
        for index, tensor in enumerate(user.inputs):
            if tensor is old:
                user._update_input(index, new)


def takes_elsewhere(tensor: Any) -> bool:
    """Whether a function takes a tensor: it has those it takes listed elsewhere, too."""
    return any(calls_functions(user) for user in tensor.consumers())
