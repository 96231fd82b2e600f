"""The parts of a model, as the user gives them: Keras models and layers, or any callables."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src.errors import CutError, VariableListError
from splitop._src.graph.devices import on_host_of
from splitop._src.names import describe, variable_name
from splitop._src.optimizers.base import tf_variable


def call_part(part: Callable[..., Any], inputs: Any) -> Any:
    """The part's output in training, worked out on the host of a cluster that has its variables.

    A layer that doesn't take the argument `training` passes it on inside.
    """
    with on_host_of_part(part):
        return part(inputs, training=True) if isinstance(part, keras.Layer) else part(inputs)


def on_host_of_part(part: Any) -> contextlib.AbstractContextManager[None]:
    """A scope on the host of a cluster that has a part's variables, if one has them all."""
    return on_host_of(map(tf_variable, getattr(part, "trainable_variables", ())))


def penalties_of(part: Any) -> list[Any]:
    """The scalar losses that a part has made in its last call: regularisers, add_loss."""
    return list(getattr(part, "losses", ()))


def total(loss: Any, penalties: Sequence[Any]) -> Any:
    """A scalar loss with the penalties that are added to it."""
    return tf.add_n([loss, *(tf.cast(each, loss.dtype) for each in penalties)])


def check_no_mask(iv: Any, cure: str) -> None:
    """Raises CutError if a tensor of IV carries a Keras mask, which would not cross."""
    for tensor in tf.nest.flatten(iv):
        if getattr(tensor, "_keras_mask", None) is not None:
            raise CutError(
                f"iv has a Keras mask, which does not get to the first part here: {cure}, or make "
                f"the mask an output of the second part. Received: {describe(tensor)} with a mask."
            )


def seed_dtype(iv: Any) -> tf.DType:
    """The dtype of dL/dIV between the parts: 16 bits would lose what a loss scale has saved."""
    return iv.dtype if iv.dtype.size > 2 else tf.float32


def variables_of(part: Any, given: Sequence[Any] | None, name: str) -> Sequence[Any]:
    """The variables that a part trains.

    Args:
        part: The part; it has been called.
        given: The user's list, which goes first.
        name: Of the part, for messages.
    """
    variables = getattr(part, "trainable_variables", None) if given is None else given
    for variable in variables or ():
        if isinstance(getattr(variable, "value", variable), tf.distribute.DistributedValues):
            raise VariableListError(
                f'variable "{variable_name(variable)}" of the {name} part has a copy on each '
                "replica of a tf.distribute strategy: create it outside of the strategy's scope. "
                f"Received: {describe(variable)}."
            )
    if not variables:
        raise VariableListError(
            f"{name}_part has no trainable_variables: pass {name}_vars. Received: {describe(part)}."
        )
    return list(variables)
