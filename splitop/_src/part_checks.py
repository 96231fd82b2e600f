"""Checks of two parts against each other, before anything is built from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src.errors import CutError, SplitError, VariableListError
from splitop._src.names import describe, variable_name
from splitop._src.optimizers.base import tf_variable

RECOMPUTE = "recompute"
STASH = "stash"


def check_forward(forward: str) -> None:
    """Checks the argument `forward`."""
    if forward not in (RECOMPUTE, STASH):
        raise SplitError(f'forward must be one of "recompute", "stash". Received: {forward!r}.')


def check_optimizers(first_optimizer: Any, second_optimizer: Any) -> None:
    """Checks that each part has an optimizer of its own; neither may be None."""
    if first_optimizer is second_optimizer:
        raise SplitError(
            "first_optimizer and second_optimizer must be two objects: one object has one "
            "iteration counter and one set of variables, and would count every step twice. Pass "
            f"a second one of the same kind. Received: {describe(first_optimizer)} for both."
        )


def check_disjoint(
    first: Sequence[Any], second: Sequence[Any], error: type[SplitError] = VariableListError
) -> None:
    """Checks that no variable belongs to both parts.

    Args:
        first: The first part's variables: tf.Variable or keras.Variable.
        second: The second part's.
        error: What to raise.
    """
    of_first = {id(tf_variable(variable)) for variable in first}
    shared = [variable_name(v) for v in second if id(tf_variable(v)) in of_first]
    if shared:
        raise error(
            "the parts must not share variables: each one is trained by one optimizer. "
            f"Received: {', '.join(shared)} in both."
        )


def dense_gradient(gradient: Any, iv: Any, loss: Any) -> Any:
    """The gradient of the loss for an intermediate vector, as a tensor."""
    if gradient is None:
        raise CutError(
            f'no gradient flows from the loss "{loss.name}" to iv "{iv.name}": an operation '
            "between them lets none through. Received: None."
        )
    return tf.identity(tf.convert_to_tensor(gradient), name="iv_gradients")
