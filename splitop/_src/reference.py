"""The reference: the plain gradient graph, which is the fallback and the oracle."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src.errors import CutError, VariableListError
from splitop._src.graph import reach
from splitop._src.graph.devices import on_host_of
from splitop._src.names import tensor_name
from splitop._src.own_gradients import own_gradients
from splitop._src.run_time_checks import CheckedSeeds, check_seeds
from splitop._src.validate import Call


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """The gradients as TensorFlow computes them.

    Attributes:
        gradients: One for each variable: a tensor, or IndexedSlices.
        extra: One for each of the further tensors asked for.
        ops: What was added to the graph, in the order of creation.
        checked: The seeds, and what they wait for.
    """

    gradients: tuple[Any, ...]
    extra: tuple[Any, ...]
    ops: tuple[Any, ...]
    checked: CheckedSeeds


def build_reference(
    call: Call, *, extra: Sequence[Any] = (), check_numerics: bool = False, own_ops: bool = False
) -> Reference:
    """Adds `tf.gradients(ivs, variables, seeds)` to the current graph.

    Args:
        call: The checked arguments.
        extra: Further tensors whose gradients are wanted from the same graph.
        check_numerics: Whether NaN or Inf in a seed is an error at run time.
        own_ops: Whether ops of splitop's own may make some of them: `own_gradients`.

    Raises:
        CutError: An op on the way has no gradient.
        VariableListError: A variable that no gradient reaches.
    """
    variables = [item.variable for item in call.variables]
    try:
        with on_host_of(variables):
            checked = check_seeds(call.ivs, call.seeds, check_numerics)
            seeds = [seed.checked for seed in checked.seeds]
            xs = [*variables, *extra]
            instead = (
                own_gradients(call.graph, call.ivs, xs)
                if own_ops
                else contextlib.nullcontext(list(call.ivs))
            )
            with instead as ivs:
                before = len(call.graph.get_operations())
                gradients = tf.gradients(ivs, xs, seeds, name="splitop/reference")
    except LookupError as error:
        raise CutError(
            f"no gradient flows back from {call.iv_label}: TensorFlow has none for an operation "
            f"on the way. Received: {error}."
        ) from error
    for item, gradient in zip(call.variables, gradients, strict=False):
        if gradient is None:
            raise VariableListError(_why_not_reached(call, item.name, item.variable))
    return Reference(
        gradients=tuple(gradients[: len(call.variables)]),
        extra=tuple(gradients[len(call.variables) :]),
        ops=tuple(call.graph.get_operations()[before:]),
        checked=checked,
    )


def _why_not_reached(call: Call, name: str, variable: Any) -> str:
    """The message for a variable without a gradient."""
    handle = reach.handle(call.graph, variable)
    start = f'variable "{name}" is not reached from {call.iv_label}: '
    for iv in call.ivs:
        block = reach.blocking_op([handle], iv)
        if block is not None:
            return (
                f'{start}{block.type} "{block.name}" lets no gradient through. '
                f"Received: {_outputs(block)}."
            )
    after = reach.descendants([handle])
    if after & reach.descendants(call.ivs):
        return (
            f"{start}it is used after it, so it belongs to the first part. Train it with "
            "the first part's loss and optimizer. Received: a variable of the other part."
        )
    placeholders = _float_placeholders(call.ivs)
    if placeholders and all(iv.shape.rank == 0 for iv in call.ivs):
        names = ", ".join(f'"{placeholder}"' for placeholder in placeholders)
        return (
            f"{start}iv is a scalar, perhaps the loss, computed from the placeholders {names}. "
            "Pass the intermediate vector as iv and its gradient as grad_ys, never the loss. "
            "Received: no connection."
        )
    return f"{start}it has no part in computing it. Received: no connection."


def _float_placeholders(ivs: Sequence[Any]) -> list[str]:
    return sorted(
        op.outputs[0].name
        for op in reach.ancestors(ivs)
        if op.type.startswith("Placeholder") and op.outputs[0].dtype.is_floating
    )


def _outputs(op: Any) -> str:
    return ", ".join(f"{tensor_name(tensor)} of {tensor.dtype.name}" for tensor in op.outputs)
