"""Makes an `EagerModel` of Keras models, or of any functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src.errors import CutError, SplitError, VariableListError
from splitop._src.names import describe
from splitop._src.parts import call_part
from splitop._src.verify.eager import EagerModel
from splitop._src.verify.split import Forward

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
        iv = call_part(second_part, x)
        loss = loss_of(y, call_part(first_part, iv))
        return Forward(iv, loss, _penalties(layers))

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


def from_model(
    model: Any,
    cut: Any,
    x: Any,
    y: Any,
    loss: Any,
    *,
    first_vars: Sequence[Any] | None,
    second_vars: Sequence[Any] | None,
    keeps_penalties: bool,
) -> EagerModel:
    """A functional or sequential model that is cut behind a layer, or behind several."""
    loss_of = loss_function(loss)
    tapped = _tapped(model, cut)

    def forward(x: Any, y: Any) -> Forward:
        iv, output = tapped(x, training=True)
        return Forward(iv, loss_of(y, output), _penalties([tapped]))

    return EagerModel(
        forward,
        x,
        y,
        first=first_vars,
        second=second_vars,
        trainable=model.trainable_variables,
        state=model.variables,
        layers=_all_layers([model]),
        keeps_penalties=keeps_penalties,
    )


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


def _tapped(model: Any, cut: Any) -> Any:
    """The same layers as a model that gives the intermediate vectors, too."""
    names = list(cut) if isinstance(cut, (list, tuple)) else [cut]
    if not names:
        raise CutError("cut must name a layer, or several. Received: an empty list.")
    if not getattr(model, "inputs", None):
        raise CutError(
            f"model '{model.name}' must be a functional or sequential model that is built, to be "
            "cut at a layer; otherwise give its two parts as second_part and first_part. "
            f"Received: {describe(model)}."
        )
    outputs = [_output_of(model, name) for name in names]
    iv = outputs if isinstance(cut, (list, tuple)) else outputs[0]
    inputs = model.inputs if isinstance(model, keras.Sequential) else model.input
    if isinstance(model, keras.Sequential):
        inputs = inputs[0]
        return keras.Model(inputs, (iv, model.outputs[0]), name=model.name)
    return keras.Model(inputs, (iv, model.output), name=model.name)


def _output_of(model: Any, layer: Any) -> Any:
    if isinstance(layer, str):
        found = {each.name: each for each in model.layers}
        if layer not in found:
            raise CutError(
                f"cut must name a layer of model '{model.name}', which are {', '.join(found)}. "
                f"Received: {layer!r}."
            )
        layer = found[layer]
    if not isinstance(layer, keras.layers.Layer):
        raise CutError(f"cut must be a layer's name, or a list of them. Received: {layer!r}.")
    # layer.output is that of its first call, wherever that was.
    functional = model._functional if isinstance(model, keras.Sequential) else model
    nodes = [node for depth in functional._nodes_by_depth.values() for node in depth]
    calls = [node for node in nodes if node.operation is layer]
    if len(calls) != 1:
        raise CutError(
            f"layer '{layer.name}' must be called once in model '{model.name}', so that it has one "
            f"output. Received: {len(calls)} calls."
        )
    outputs = calls[0].outputs
    return outputs[0] if len(outputs) == 1 else list(outputs)


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
