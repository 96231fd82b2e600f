"""Gradients that an optimizer adds up over several steps before it updates a variable."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Accumulation:
    """How an optimizer accumulates gradients.

    To add a gradient to its accumulator is an update by the rule sgd: w -= lr * g with lr = -1.

    Attributes:
        steps: Over how many steps; the mean of the gradients is what the rule is given.
        due: Gives a boolean scalar: whether the step to come is the last one of these.
        variable: Gives the accumulator of a variable: of its shape and dtype.
    """

    steps: int
    due: Callable[[], tf.Tensor]
    variable: Callable[[Any], tf.Variable]

    def slots(self, variable: Any) -> tuple[tf.Variable, ...]:
        """The slots of an accumulator."""
        return ()

    def decayed(self, variable: Any) -> bool:
        """Whether weight decay applies to an accumulator."""
        return False

    def updates_all_rows(self, variable: Any) -> bool:
        """Whether rows of a table without a gradient are updated, too."""
        return False

    def adds_up_slices(self) -> bool:
        """Whether the accumulator is given the sum of a row's slices."""
        return True

    def hyper(self, dtype: tf.DType) -> tf.Tensor:
        """The hyperparameters of the rule sgd."""
        return tf.constant([0, -1], dtype)
