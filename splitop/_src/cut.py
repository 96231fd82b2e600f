"""Whether an intermediate vector really cuts a model into two parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from splitop._src.errors import CutError
from splitop._src.graph import reach
from splitop._src.validate import Trainable


def check_cut(
    graph: Any,
    loss: Any,
    ivs: Sequence[Any],
    first: Sequence[Trainable],
    second: Sequence[Trainable],
) -> None:
    """Checks that the gradient of every variable is what the two-run flow gives it.

    Raises:
        CutError: The loss does not depend on an intermediate vector, one vector is computed
            from another, a variable of the second part reaches the loss around them, or one
            of the first part helps to compute them.
    """
    _check_loss_uses(loss, ivs)
    _check_independent(ivs)
    around = reach.ancestors([loss], crosses=reach.passes_gradient, stop=ivs)
    for item in second:
        reader = _reader(graph, item, around)
        if reader is not None:
            path = " -> ".join(reach.path_names(around, reader))
            raise CutError(
                f'iv {_names(ivs)} does not separate the two parts: variable "{item.name}" of '
                f'the second part also reaches the loss "{loss.name}" around it (a skip '
                "connection, a shared variable or a regularisation loss), and that part of its "
                "gradient would be lost. Add the tensor that goes around to iv, or move the cut. "
                f"Received: {path}."
            )
    before = reach.ancestors(ivs, crosses=reach.passes_gradient)
    for item in first:
        reader = _reader(graph, item, before)
        if reader is not None:
            path = " -> ".join(reach.path_names(before, reader))
            raise CutError(
                f'variable "{item.name}" of the first part also helps to compute iv '
                f"{_names(ivs)}: it is shared by both parts, or belongs to the second one. "
                f"Received: {path}."
            )


def _check_loss_uses(loss: Any, ivs: Sequence[Any]) -> None:
    used = reach.ancestors([loss])
    for iv in ivs:
        if iv.op not in used:
            raise CutError(
                f'the loss "{loss.name}" is not computed from iv "{iv.name}"; if it was built '
                "on a placeholder for the intermediate vector, build it on the vector itself. "
                "Received: no connection."
            )


def _check_independent(ivs: Sequence[Any]) -> None:
    for iv in ivs:
        for op in reach.ancestors([iv], crosses=reach.passes_gradient):
            for other in ivs:
                if any(tensor is other for tensor in op.inputs):
                    raise CutError(
                        f'iv "{iv.name}" is computed from iv "{other.name}": the gradient that '
                        "passes through both would count twice. Received: "
                        f'"{op.name}" uses "{other.name}".'
                    )


def _reader(graph: Any, item: Trainable, walk: dict[Any, Any]) -> Any | None:
    """An op of the walk that reads the variable and passes its gradient on."""
    for op in reach.handle(graph, item.variable).consumers():
        if op in walk and reach.passes_gradient(op):
            return op
    return None


def _names(ivs: Sequence[Any]) -> str:
    return ", ".join(f'"{iv.name}"' for iv in ivs)
