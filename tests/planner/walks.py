"""Walks over the graphs that plans have made."""

from __future__ import annotations

from typing import Any


def all_before(*operations: Any) -> set[Any]:
    """The operations themselves, and all that they wait for."""
    found: set[Any] = set()
    stack = list(operations)
    while stack:
        op = stack.pop()
        if op not in found:
            found.add(op)
            stack += [*(tensor.op for tensor in op.inputs), *op.control_inputs]
    return found


def of_type(graph: Any, start: str) -> list[Any]:
    """A graph's operations whose type begins with `start`."""
    return [op for op in graph.get_operations() if op.type.startswith(start)]
