"""The typed wrapper of the compiled op `Splitop>MultiTensorUpdate` (csrc/tf)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.ops import (
    check_gradient_dtype,
    check_in_graph,
    check_not_empty,
    optional,
    resource_handle,
)


@dataclasses.dataclass(frozen=True)
class UpdateArgs:
    """A variable and its gradient, both of the same dtype, float32 or float64.

    Attributes:
        gradient: Tensor of the variable's shape.
        variable: A tf.Variable or a keras.Variable.
        slots: Its slots, variables of its shape, or of a row-wise rule with one element for each
            row, in the rule's order.
        decayed: Whether weight decay applies to it.
        name: What the user calls it; for messages.
    """

    gradient: tf.Tensor
    variable: Any
    slots: tuple[Any, ...]
    decayed: bool
    name: str


def multi_tensor_update(
    updates: Sequence[UpdateArgs],
    *,
    rule: str,
    hyper: tf.Tensor,
    condition: tf.Tensor | None = None,
    clips: tf.Tensor | None = None,
    name: str | None = None,
) -> tf.Operation:
    """Adds the op that updates variables by gradients that are there already.

    Shapes are checked as far as they are known, and again, before anything is written, when
    the op runs: then as tf.errors.InvalidArgumentError, or as FailedPreconditionError for a
    variable without a value.

    Args:
        updates: At least one; no variable may appear twice.
        rule: The update rule; `csrc/include/splitop/update_rule.h` has them all.
        hyper: The rule's hyperparameters in its order, a tensor of the variables' dtype.
        condition: A boolean scalar: whether the variables are updated; None: they are.
        clips: For each variable what its gradient is multiplied by, and to which magnitude it is
            then clipped: [variables, 2] of the variables' dtype. None: the gradients stay as they
            are.
        name: Name of the operation.

    Raises:
        SplitError: Outside a graph, without a variable, or for a gradient or hyperparameters
            of another dtype.
        VariableListError: Something that is no resource variable.
        ValueError: TensorFlow's, for shapes or attributes that do not fit.
        LibraryError: The compiled library is not there.
    """
    check_in_graph("multi_tensor_update")
    check_not_empty("multi_tensor_update", updates, "variable")
    for update in updates:
        check_gradient_dtype(update.gradient, hyper, update.name)
    return library.load().splitop_multi_tensor_update(
        gradients=[update.gradient for update in updates],
        variables=[resource_handle(update.variable, update.name) for update in updates],
        slots=[resource_handle(slot, "a slot") for update in updates for slot in update.slots],
        hyper=hyper,
        conditions=optional(condition),
        clips=optional(clips),
        rule=rule,
        decayed=[update.decayed for update in updates],
        variable_names=[update.name for update in updates],
        name=name,
    )
