"""Where a training step is cut into the run of its forward pass and a later run that goes back."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.errors import SplitError
from splitop._src.graph import reach
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
    ivs: Sequence[Any],
    *,
    trained: Sequence[Any],
    given: Iterable[Any] = (),
    recompute: bool = False,
) -> Handover:
    """Cuts a step.

    Args:
        step: The operations that do it.
        operations: All that were added for it: its gradients and its updates.
        ivs: What the forward pass computes.
        trained: Handles of the variables that it trains. These are read again, as whoever keeps
            their values would have them copied before they are written.
        given: Tensors that the later run has.
        recompute: Whether it computes the forward pass again; then only what can't be computed
            twice is kept: random numbers, elements of a data set, variables that move.

    Raises:
        SplitError: The gradients need something that can't be kept.
    """
    forward = reach.ancestors(ivs, control=True)
    later = {op for op in operations if op not in forward and not _makes_handle(op)}
    known = {tensor.ref() for tensor in given}
    later -= {op for op in later if _is_shape_of_earlier(op, later, known)}
    again = _Again(trained, recompute)
    later |= {op for op in _with_inputs(later) if op not in later and again(op)}
    work = portion(step, later)
    outside = [tensor for tensor in work.inputs if tensor.ref() not in known]
    for tensor in outside:
        _check_can_be_kept(tensor)
    return Handover(work, tuple(t for t in outside if t.dtype != tf.resource))


def cant_be_repeated(ivs: Sequence[Any]) -> list[Any]:
    """The operations that would give something else if the forward pass ran again."""
    forward = reach.ancestors(ivs)
    written = {
        tensor.ref() for op in forward for tensor in op.inputs if op.type.startswith("Assign")
    }
    return [
        op
        for op in forward
        if op.op_def.is_stateful
        and not _makes_handle(op)
        and not calls_functions(op)
        and not (op.type in _READS and op.inputs[0].ref() not in written)
    ]


class _Again:
    """Whether the later run does an operation of the forward pass again."""

    def __init__(self, trained: Sequence[Any], recompute: bool):
        self._trained = {handle.ref() for handle in trained}
        self._recompute = recompute
        self._known: dict[Any, bool] = {}

    def __call__(self, op: Any) -> bool:
        if op not in self._known:
            self._known[op] = self._decide(op)
        return self._known[op]

    def _decide(self, op: Any) -> bool:
        if op.type == "Const":
            return not op.control_inputs
        if op.type in _READS and op.inputs[0].ref() in self._trained:
            return op.type == "ReadVariableOp" or self._recompute
        if op.type in SAME_MEMORY:
            # Of something else that is kept, a reshape has the same memory, too.
            return self._recompute or self(op.inputs[0].op)
        return self._recompute and not op.op_def.is_stateful and op.type not in PLACEHOLDERS


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
        cure = (
            "call tf.compat.v1.enable_resource_variables() before it is created"
            if tensor.dtype._is_ref_dtype
            else "call tf.compat.v1.enable_control_flow_v2() before the graph is built"
        )
        raise SplitError(
            f"the second part's step needs a tensor that no run can keep for another one: {cure}, "
            f'or use forward="recompute". Received: {tensor.op.type} "{tensor.name}".'
        )
