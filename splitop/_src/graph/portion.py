"""A portion of a graph's operations, which another run or another function does."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from splitop._src.errors import SplitError
from splitop._src.graph.copy import copy_op


@dataclasses.dataclass(frozen=True, eq=False)
class Portion:
    """Operations that are done together.

    Attributes:
        ops: The operations; what an operation needs comes before it.
        inputs: The tensors from outside that they use, each of them once.
    """

    ops: tuple[Any, ...]
    inputs: tuple[Any, ...]


def portion(targets: Iterable[Any], within: Container[Any]) -> Portion:
    """The operations of `within` that `targets` need, these included.

    Args:
        targets: Operations.
        within: The ones to stay in: what they use from outside is an input, and what they wait for
            outside is left out.

    Raises:
        SplitError: They are inside of a loop or a condition of TF1's own control flow.
    """
    inputs: dict[Any, Any] = {}
    done: dict[Any, None] = {}
    stack = [(op, False) for op in targets if op in within]
    while stack:
        op, needs_are_done = stack.pop()
        if op in done:
            continue
        if needs_are_done:
            done[op] = None
            continue
        _check_context(op)
        inputs |= {tensor.ref(): tensor for tensor in op.inputs if tensor.op not in within}
        needs = [*(tensor.op for tensor in op.inputs), *op.control_inputs]
        stack.append((op, True))
        stack += [(need, False) for need in needs if need in within and need not in done]
    return Portion(tuple(done), tuple(inputs.values()))


def copy_portion(
    work: Portion, tensors: Mapping[Any, Any], after: Sequence[Any] = ()
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Adds the operations to the current graph once more, on other inputs.

    Args:
        work: The operations.
        tensors: What stands for each tensor of `work.inputs`, by reference.
        after: What all of them wait for.

    Returns:
        The new operations by the old ones, and the new tensors by references of the old ones.
    """
    now: dict[Any, Any] = dict(tensors)
    operations: dict[Any, Any] = {}
    for op in work.ops:
        before = [operations[each] for each in op.control_inputs if each in operations]
        if not before and not any(tensor.op in operations for tensor in op.inputs):
            before = list(after)
        copy = copy_op(op, [now[tensor.ref()] for tensor in op.inputs], before, op.name)
        operations[op] = copy
        now |= {old.ref(): new for old, new in zip(op.outputs, copy.outputs, strict=True)}
    return operations, now


def _check_context(op: Any) -> None:
    if op._get_control_flow_context() is not None:
        raise SplitError(
            "what one run keeps for another can't be taken out of a tf.while_loop or a tf.cond of "
            "TF1: call tf.compat.v1.enable_control_flow_v2() before the graph is built. "
            f'Received: {op.type} "{op.name}".'
        )
