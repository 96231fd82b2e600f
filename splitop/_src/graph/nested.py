"""The operations of a graph together with those inside of the functions that they call."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from tensorflow.python.framework import op_def_registry

# Stateful for TensorFlow as what they call may be.
CALLS = frozenset({"Case", "If", "PartitionedCall", "StatefulPartitionedCall", "While"})
# Stateful for TensorFlow, but they may run twice: they check, print, or tell what a device does.
HARMLESS = frozenset(
    {
        "Assert", "CheckNumerics", "CheckNumericsV2", "LookupTableFindV2", "LookupTableSizeV2",
        "Print", "PrintV2", "StatelessRandomGetAlg", "StatelessRandomGetKeyCounterAlg",
    }
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """An operation.

    Attributes:
        op: The operation of the graph: itself, or the one that calls the function it is in.
        type: Its type.
        name: What to call it.
        stateful: Whether a second run may give something else, or do something again.
    """

    op: Any
    type: str
    name: str
    stateful: bool

    @property
    def nested(self) -> bool:
        """Whether it is inside of a function."""
        return self.op.type != self.type


def operations(graph: Any, ops: Iterable[Any]) -> Iterator[Found]:
    """All operations that run when `ops` do."""
    ops = list(ops)
    bodies: dict[str, Any] = {}
    if any(_functions(op.node_def) for op in ops):
        bodies = {body.signature.name: body for body in graph.as_graph_def().library.function}
    for op in ops:
        yield Found(op, op.type, op.name, _is_stateful(op.node_def))
        pending, seen = _functions(op.node_def), set()
        while pending:
            name = pending.pop()
            if name in seen:
                continue
            seen.add(name)
            if name not in bodies:  # It may do anything.
                yield Found(op, name, f"{op.name}/{name}", stateful=True)
                continue
            for node in bodies[name].node_def:
                yield Found(op, node.op, f"{op.name}/{node.name}", _is_stateful(node))
                pending += _functions(node)


def _is_stateful(node: Any) -> bool:
    # cuDNN's recurrent layers are stateful for the sake of the dropout that they may have inside.
    if node.op.startswith("CudnnRNN") and not node.attr["dropout"].f:
        return False
    definition = op_def_registry.get(node.op)
    return definition is not None and bool(definition.is_stateful)


def _functions(node: Any) -> list[str]:
    names = []
    for value in node.attr.values():
        if value.HasField("func"):
            names.append(value.func.name)
        names += [function.name for function in value.list.func]
    return names
