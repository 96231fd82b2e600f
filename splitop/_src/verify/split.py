"""A model that is cut in two, inside the graph that is being built."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src.graph import reach
from splitop._src.validate import Trainable


@dataclasses.dataclass(frozen=True, eq=False)
class Forward:
    """One forward pass.

    Attributes:
        iv: The intermediate vector, or a nested structure of them.
        loss: The loss of the task.
        penalties: Further scalars that a model wants to have minimized: Keras' `losses`.
    """

    iv: Any
    loss: Any
    penalties: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """A forward pass and who trains what.

    Attributes:
        ivs: The intermediate vectors, flattened.
        loss: The loss of the task.
        first: The first part's variables.
        second: The second part's variables.
        first_penalties: The penalties that join the loss in the first part.
        second_penalties: Those of the second part, of which the seed knows nothing.
        keeps_penalties: Whether the second part's step minimizes these as well.
    """

    ivs: tuple[Any, ...]
    loss: Any
    first: tuple[Trainable, ...]
    second: tuple[Trainable, ...]
    first_penalties: tuple[Any, ...]
    second_penalties: tuple[Any, ...]
    keeps_penalties: bool

    @property
    def variables(self) -> tuple[Trainable, ...]:
        """Those of both parts, from the input to the loss."""
        return (*self.second, *self.first)

    def first_total(self) -> Any:
        """What the first part minimizes."""
        return _sum([self.loss, *self.first_penalties])

    def joint_total(self) -> Any:
        """What the model in one piece minimizes."""
        return _sum([self.loss, *self.first_penalties, *self.second_penalties])


def reads(graph: Any, item: Trainable, tensors: Sequence[Any], stop: Sequence[Any] = ()) -> bool:
    """Whether a gradient flows from `tensors` back to a variable, not through those in `stop`."""
    walk = reach.ancestors(tensors, crosses=reach.passes_gradient, stop=stop)
    handle = reach.handle(graph, item.variable)
    return any(op in walk and reach.passes_gradient(op) for op in handle.consumers())


def belongs_to_second(
    graph: Any, penalty: Any, first: Sequence[Trainable], second: Sequence[Trainable]
) -> bool:
    """Whether a penalty is the second part's own: no variable of the first one shares in it."""
    return not any(reads(graph, item, [penalty]) for item in first) and any(
        reads(graph, item, [penalty]) for item in second
    )


def _sum(terms: Sequence[Any]) -> Any:
    loss = terms[0] if terms[0].shape.rank == 0 else tf.reduce_sum(terms[0])
    # One after the other: what a float32 penalty adds to a bfloat16 loss is rounded to the latter.
    for term in terms[1:]:
        loss += tf.cast(term, loss.dtype)
    return loss
