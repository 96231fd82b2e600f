"""A step that a later run does, without a second forward pass."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.graph import reach
from splitop._src.graph.copy import calls_functions
from splitop._src.graph.handover import PLACEHOLDERS, hand_over
from splitop._src.graph.portion import copy_portion
from splitop._src.stash import Stash
from splitop._src.validate import Trainable
from splitop._src.write_order import SAME_MEMORY

# Often fed in the place of a placeholder, or made by the user's own code.
_FROM_OUTSIDE = ("EagerPyFunc", "Iterator", "PyFunc", "Queue")


@dataclasses.dataclass(frozen=True, eq=False)
class LaterStep:
    """The two sides of a step of a TF1 graph.

    Attributes:
        keep: Keeps what the step needs; part of the run of the forward pass.
        step: Does the step, with what was kept, and leaves nothing.
    """

    keep: tf.Operation
    step: tf.Operation
    _stash: Stash

    def forget(self) -> tf.Operation:
        """The operation that forgets what was kept."""
        return self._stash.clear()


def later_step(
    step: tf.Operation,
    added: Sequence[Any],
    ivs: Sequence[Any],
    variables: Sequence[Trainable],
    *,
    seeds: Sequence[Any],
    recompute: bool,
) -> LaterStep:
    """Cuts a step of a TF1 graph in two.

    Args:
        step: The operation that does it in one run.
        added: All that was added to the graph for it, its gradients and its updates.
        ivs: What the forward pass computes.
        variables: Those that it trains.
        seeds: The placeholders of dL/dIV.
        recompute: Whether the step runs the forward pass again; then variables may move before,
            unless something that was computed from them has to be kept.

    Raises:
        SplitError: Something can't be kept.
    """
    forward = reach.ancestors(ivs, control=True)
    trained = [reach.handle(step.graph, item.variable) for item in variables]
    # What neither the forward pass nor the step computes is there in any run: a learning rate, say.
    computed = forward.keys() | set(added)
    given = [tensor for op in added for tensor in op.inputs if tensor.op not in computed]
    if recompute:  # It is fed what the run of the forward pass was fed.
        given += [op.outputs[0] for op in forward if op.type in PLACEHOLDERS]
    handover = hand_over(
        [step],
        added,
        forward,
        trained=trained,
        given=[*seeds, *given],
        recompute=recompute,
    )
    moved_is_wrong = not recompute or any(calls_functions(t.op) for t in handover.kept)
    stash = Stash(handover.kept, variables if moved_is_wrong else ())
    taken = stash.take()
    tensors = {tensor.ref(): tensor for tensor in handover.work.inputs}
    tensors |= {before.ref(): now for before, now in zip(handover.kept, taken.tensors, strict=True)}
    copies, _ = copy_portion(handover.work, tensors, taken.after)
    used = [op for handle in trained for op in handle.consumers() if op in forward]
    keep = stash.put([_own_memory(tensor) for tensor in handover.kept], after=used)
    return LaterStep(keep, copies[step], stash)


def _own_memory(tensor: Any) -> Any:
    """The tensor, in memory of its own where it may share that of an array that was fed.

    The user may write the next batch into that array.
    """
    op = tensor.op
    while op.type in SAME_MEMORY:
        op = op.inputs[0].op
    outside = op.type in PLACEHOLDERS or op.type.startswith(_FROM_OUTSIDE)
    return tf.raw_ops.DeepCopy(x=tensor) if outside else tensor


class KeptSeeds:
    """dL/dIV, which the later run takes unless it is fed another one.

    Attributes:
        keep: Keeps those of this run.
    """

    def __init__(self, seeds: Sequence[Any]):
        """Adds both sides to a TF1 graph."""
        self._stash = Stash(seeds)
        self._taken = self._stash.take().tensors
        self.keep = self._stash.put(seeds)

    def placeholders(self) -> list[tf.Tensor]:
        """Adds placeholders for the seeds of the later run."""
        return [
            tf.compat.v1.placeholder_with_default(kept, kept.shape, "iv_gradients_ph")
            for kept in self._taken
        ]

    def forget(self) -> tf.Operation:
        """The operation that forgets what was kept."""
        return self._stash.clear()


@contextlib.contextmanager
def added_operations(graph: Any) -> Iterator[list[Any]]:
    """Lists what is added to a graph; the list is complete when the context is left."""
    before = len(graph.get_operations())
    added: list[Any] = []
    yield added
    added += graph.get_operations()[before:]
