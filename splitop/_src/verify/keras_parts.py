"""Makes an `EagerModel` of Keras models, or of any functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src.errors import SplitError, VariableListError
from splitop._src.joint_step import cross
from splitop._src.names import describe
from splitop._src.parts import call_part
from splitop._src.split_model import cut as cutting
from splitop._src.verify.eager import EagerModel
from splitop._src.verify.split import Forward
from splitop._src.verify.state import python_state_kept

Loss = Callable[[Any, Any], Any]


def from_parts(
    second_part: Any,
    first_part: Any,
    x: Any,
    y: Any,
    loss: Any,
    *,
    first_vars: Sequence[Any] | None,
    second_vars: Sequence[Any] | None,
    keeps_penalties: bool,
) -> EagerModel:
    """A second part and a first part, each a Keras model or another callable."""
    loss_of = loss_function(loss)
    parts = (second_part, first_part)
    layers = [part for part in parts if isinstance(part, keras.layers.Layer)]
    first = _variables(first_part, first_vars, "first")
    second = _variables(second_part, second_vars, "second")

    def forward(x: Any, y: Any) -> Forward:
        iv = _crossed(call_part(second_part, x))
        loss = loss_of(y, call_part(first_part, iv))
        seeded = _with_gradient(iv) if len(layers) == len(parts) else iv
        return Forward(seeded, loss, _penalties(layers))

    return EagerModel(
        forward,
        x,
        y,
        first=first,
        second=second,
        trainable=[v for layer in layers for v in layer.trainable_variables],
        state=[v for layer in layers for v in layer.variables],
        layers=_all_layers(layers),
        keeps_penalties=keeps_penalties,
    )


def from_model(model: Any, cut: Any, x: Any, y: Any, loss: Any, **options: Any) -> EagerModel:
    """A functional or sequential model that is cut behind a layer, or behind several.

    Raises:
        CutError: See `SplitModel.cut`.
    """
    several = isinstance(cut, (list, tuple))
    names = [_name_of(each) for each in cut] if several else _name_of(cut)
    with python_state_kept(_all_layers([model])):
        second_part, first_part = cutting.cut(model, names)
    return from_parts(second_part, first_part, x, y, loss, **options)


def _name_of(layer: Any) -> Any:
    return layer.name if isinstance(layer, keras.layers.Layer) else layer


def loss_function(loss: Any) -> Loss:
    """The function that gives a scalar, or a tensor, of (y, output).

    Raises:
        SplitError: `loss` is nothing that gives one loss.
    """
    if isinstance(loss, str):
        try:
            found = keras.losses.get(loss)
        except ValueError as error:
            raise SplitError(
                f"loss must be a loss function or the name of one of Keras'. Received: {loss!r}."
            ) from error
        # Keras' functions give a loss for each sample.
        return lambda y, output: tf.reduce_mean(found(y, output))
    if not callable(loss):
        raise SplitError(
            "loss must be a function of (y, output) that gives a scalar, a keras.losses.Loss or "
            "its name; for several outputs, a function that adds their losses up. "
            f"Received: {describe(loss)}."
        )
    function: Loss = loss
    return function


@tf.autograph.experimental.do_not_convert
def _crossed(iv: Any) -> Any:
    """What the first part works on: of IV, one tensor may be computed from another, or an input."""
    if not all(isinstance(leaf, tf.Tensor) for leaf in tf.nest.flatten(iv)):
        return iv  # The inspection says so.
    return tf.nest.map_structure(_cross_one, iv)


def _cross_one(tensor: Any) -> Any:
    with tf.name_scope(f"{tensor.op.name}/"):  # What reports call it.
        return cross(tensor)


@tf.autograph.experimental.do_not_convert
def _with_gradient(iv: Any) -> Any:
    """IV without what no gradient can flow back through, such as masks, if anything is left."""
    return [leaf for leaf in tf.nest.flatten(iv) if not _is_discrete(leaf)] or iv


def _is_discrete(leaf: Any) -> bool:
    return isinstance(leaf, tf.Tensor) and (leaf.dtype.is_integer or leaf.dtype.is_bool)


@tf.autograph.experimental.do_not_convert
def _penalties(layers: Sequence[Any]) -> tuple[Any, ...]:
    # A layer that both parts have gives its penalty once.
    tensors = [loss for layer in layers for loss in layer.losses]
    return tuple({id(tensor): tensor for tensor in tensors}.values())


def _variables(part: Any, given: Sequence[Any] | None, which: str) -> Sequence[Any]:
    if given is not None:
        return list(given)
    if not isinstance(part, keras.layers.Layer):
        raise VariableListError(
            f"{which}_vars must list the variables of {which}_part, which is no Keras model. "
            "Received: None."
        )
    if not part.built:
        raise VariableListError(
            f"{which}_part '{part.name}' must be built, so that it has variables: call it once, or "
            "give it an input shape. Received: a model that is not built."
        )
    variables: Sequence[Any] = part.trainable_variables
    return variables


def _all_layers(models: Sequence[Any]) -> list[Any]:
    return [layer for model in models for layer in model._flatten_layers()]
