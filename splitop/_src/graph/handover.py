"""Where a training step is cut into the run of its forward pass and a later run that goes back."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.errors import SplitError
from splitop._src.graph import nested, reach
from splitop._src.graph.copy import calls_functions
from splitop._src.graph.portion import Portion, portion
from splitop._src.write_order import SAME_MEMORY

# What they return is small, and what they read need not be kept for it.
_SHAPES = frozenset({"Rank", "Shape", "ShapeN", "Size", "VariableShape"})
_READS = frozenset({"ReadVariableOp", "ResourceGather", "ResourceGatherNd"})
PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})


@dataclasses.dataclass(frozen=True, eq=False)
class Handover:
    """What the later run does, and with what.

    Attributes:
        work: Its operations.
        kept: The tensors that the first run has to keep for it.
    """

    work: Portion
    kept: tuple[Any, ...]


def hand_over(
    step: Iterable[Any],
    operations: Sequence[Any],
    forward: Container[Any],
    *,
    trained: Sequence[Any],
    given: Iterable[Any] = (),
    recompute: bool = False,
) -> Handover:
    """Cuts a step.

    Args:
        step: The operations that do it.
        operations: All that were added for it: its gradients and its updates.
        forward: What the run of the forward pass does, of all that was there before.
        trained: Handles of the variables that it trains. Unless the forward pass writes them, these
            are read again, as whoever keeps their values would have them copied before they are
            written.
        given: Tensors that the later run has.
        recompute: Whether it computes the forward pass again; then only what can't be computed
            twice is kept: random numbers, elements of a data set, variables that are not trained.

    Raises:
        SplitError: The gradients need something that can't be kept.
    """
    later = {op for op in operations if op not in forward and not _makes_handle(op)}
    known = {tensor.ref() for tensor in given}
    later -= {op for op in later if _is_shape_of_earlier(op, later, known)}
    unwritten = [handle for handle in trained if not _is_written(handle, forward)]
    again = _Again(unwritten, recompute)
    later |= {op for op in _with_inputs(later) if op not in later and again(op)}
    work = portion(step, later)
    outside = [tensor for tensor in work.inputs if tensor.ref() not in known]
    for tensor in outside:
        _check_can_be_kept(tensor)
    return Handover(work, tuple(t for t in outside if t.dtype != tf.resource))


def can_be_repeated(ivs: Sequence[Any], moving: Iterable[Any]) -> bool:
    """Whether the forward pass would give the same if it ran again.

    Args:
        ivs: What it computes.
        moving: Handles of further variables that have moved by then.
    """
    forward = reach.ancestors(ivs, control=True)
    moved = {handle.ref() for handle in moving}
    computing = [op for op in reach.ancestors(ivs) if not _makes_handle(op)]
    return all(
        _gives_the_same(found, forward, moved)
        for found in nested.operations(ivs[0].graph, computing)
    )


def _gives_the_same(
    found: nested.Found, forward: Container[Any] = (), moved: Container[Any] = ()
) -> bool:
    """Whether a second run gives the same, of an operation or of one in a function it calls."""
    if not found.stateful or found.type in nested.CALLS or found.type in nested.HARMLESS:
        return True
    if found.type not in _READS:
        return False
    read = found.op.inputs[0]
    return found.nested or not (read.ref() in moved or _is_written(read, forward))


def _is_written(handle: Any, ops: Container[Any]) -> bool:
    return any(op in ops for op in reach.writers(handle))


class _Again:
    """Whether the later run does an operation of the forward pass again."""

    def __init__(self, trained: Sequence[Any], recompute: bool):
        self._trained = {handle.ref() for handle in trained}
        self._recompute = recompute

    def __call__(self, op: Any) -> bool:
        if op.type == "Const":
            return not op.control_inputs
        if op.type in _READS and op.inputs[0].ref() in self._trained:
            return op.type == "ReadVariableOp" or self._recompute
        if op.type in SAME_MEMORY:
            # Of something else that is kept, a reshape has the same memory, too.
            return self._recompute or self(op.inputs[0].op)
        if not self._recompute or op.type in PLACEHOLDERS:
            return False
        # What it reads itself, beside trained variables, may move.
        return op.type not in _READS and all(
            map(_gives_the_same, nested.operations(op.graph, [op]))
        )


def _with_inputs(ops: Iterable[Any]) -> dict[Any, Any]:
    """The operations, and all that these are computed from."""
    return reach.ancestors([tensor for op in ops for tensor in op.inputs])


def _makes_handle(op: Any) -> bool:
    return any(tensor.dtype == tf.resource for tensor in op.outputs) and not op.inputs


def _is_shape_of_earlier(op: Any, later: Container[Any], given: Container[Any]) -> bool:
    return op.type in _SHAPES and not any(
        tensor.op in later or tensor.ref() in given for tensor in op.inputs
    )


def _check_can_be_kept(tensor: Any) -> None:
    # A handle that is made from something belongs to one run: TF1's tensor arrays, say.
    if (tensor.dtype == tf.resource and tensor.op.inputs) or tensor.dtype._is_ref_dtype:
        raise SplitError(
            "the second part's step needs a tensor that no run can keep for another one: "
            f'{_cure(tensor)}, or use forward="recompute". '
            f'Received: {tensor.op.type} "{tensor.name}".'
        )


def _cure(tensor: Any) -> str:
    if tensor.dtype._is_ref_dtype:
        return "call tf.compat.v1.enable_resource_variables() before it is created"
    if calls_functions(tensor.op):
        # A loop in there hands out the handles of the variables that it reads.
        return "build the loop outside of the tf.function"
    return "call tf.compat.v1.enable_control_flow_v2() before the graph is built"
