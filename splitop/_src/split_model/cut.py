"""Cutting a functional or sequential Keras model in two, and checking two parts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras.src.models.functional import Functional

from splitop._src.errors import CutError, SplitError
from splitop._src.names import describe
from splitop._src.part_checks import check_disjoint


def check_parts(second: Any, first: Any) -> None:
    """Checks that two models can be the parts of one.

    Raises:
        SplitError: One is no Keras model.
        CutError: They share variables, or the output of `second` does not fit `first`.
    """
    for name, part in (("second_part", second), ("first_part", first)):
        if not isinstance(part, keras.Model):
            raise SplitError(f"{name} must be a keras.Model. Received: {describe(part)}.")
    if second is first:
        raise CutError(f"the parts must be two models. Received: {second.name!r} for both.")
    check_disjoint(first.variables, second.variables, CutError)
    iv, taken = _structure_of(second, "output"), _structure_of(first, "input")
    if iv is None or taken is None:
        return
    given, expected = (keras.tree.flatten(structure) for structure in (iv, taken))
    if len(given) != len(expected) or not all(map(_fits, given, expected)):
        raise CutError(
            f"the output of the second part {second.name!r}, IV, must be the input of the first "
            f"part {first.name!r}. Expected: {_shapes(taken)}. Received: {_shapes(iv)}."
        )


def inputs_of(model: Any) -> Any | None:
    """The symbolic inputs of a model, in their structure; None: it has none."""
    return _structure_of(model, "input")


# What would be lost with the model's class.
_TRAINING = ("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics")


def _check_plain(model: Any) -> None:
    """Raises CutError for a model with a call or a training step of its own."""
    own = [
        name
        for name in _TRAINING
        if getattr(type(model), name, None) is not getattr(keras.Model, name)
    ]
    built_in = [getattr(base, "call", None) for base in (Functional, keras.Sequential)]
    if isinstance(model, Functional) and type(model).call not in built_in:
        own.append("call")
    if own:
        raise CutError(
            "the parts of a model that is cut would not have its own methods: pass the two parts, "
            f"or put them into layers and losses. Received: {type(model).__name__} with "
            f"{', '.join(own)}."
        )


def cut(model: Any, layer_names: str | Sequence[str]) -> tuple[Any, Any]:
    """Cuts a model behind layers.

    Returns:
        The second part, from the model's inputs to the layers' outputs, and the first part, from
        there to the model's outputs. They share the layers with `model`.

    Raises:
        CutError: See `SplitModel.cut`.
    """
    outputs = _structure_of(model, "output")
    if outputs is None:
        raise CutError(
            "only a functional or a sequential keras.Model that is built (it has an Input) can be "
            "cut; of any other, pass its two parts, second_part and first_part. "
            f"Received: {describe(model)}."
        )
    _check_plain(model)
    if not isinstance(layer_names, (str, list, tuple)):
        raise CutError(
            f"the cut must be a layer's name, or a list of them. Received: {describe(layer_names)}."
        )
    names = [layer_names] if isinstance(layer_names, str) else list(layer_names)
    if not names:
        raise CutError("name at least one layer to cut the model behind. Received: no name.")
    every = _nodes_before(keras.tree.flatten(outputs))
    tensors = [tensor for name in names for tensor in _outputs_of(model, name, every)]
    tensors += [mask for mask in map(_mask, tensors) if mask is not None]
    below = _nodes_before(tensors)
    above = _nodes_before(keras.tree.flatten(outputs), stop=[*tensors, *_outputs(below)])
    ivs = _used(tensors, above, outputs)
    _check_around(names, tensors, below, above, outputs)
    _check_shared(below, above)
    _check_both_have_something(names, below, above)
    iv = ivs[0] if len(ivs) == 1 and isinstance(layer_names, str) else ivs
    inputs = _structure_of(model, "input")
    given = keras.tree.map_structure(_without_mask, iv)
    second = keras.Model(inputs, given, name=f"{model.name}_second_part")
    inputs, outputs = _called_again(iv, above, outputs)
    return second, keras.Model(inputs, outputs, name=f"{model.name}_first_part")


def _called_again(iv: Any, above: Sequence[Any], outputs: Any) -> tuple[Any, Any]:
    """Makes the calls of the first part again, on new inputs in the place of IV.

    keras.Model would do so by itself, but breaks the calls of an input that is part of IV.

    Returns:
        The inputs, and what the calls make of them.
    """
    new: dict[int, Any] = {}
    for number, tensor in enumerate(keras.tree.flatten(iv)):
        name = f"iv_{number}_{_node(tensor).operation.name}"
        new[id(tensor)] = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)
    waiting = list(reversed(above))
    while waiting:
        node = waiting.pop(0)
        if any(id(tensor) not in new for tensor in node.input_tensors):
            waiting.append(node)
            continue
        args, kwargs = node.arguments.fill_in(new)
        results = keras.tree.flatten(node.operation(*args, **kwargs))
        new.update(
            (id(old), result) for old, result in zip(node.output_tensors, results, strict=True)
        )
    return (
        keras.tree.map_structure(lambda tensor: new[id(tensor)], iv),
        keras.tree.map_structure(lambda tensor: new[id(tensor)], outputs),
    )


def _without_mask(tensor: Any) -> Any:
    """The tensor, without a mask that Keras would attach to it: it crosses by itself."""
    return tensor if _mask(tensor) is None else keras.ops.copy(tensor)


def _mask(tensor: Any) -> Any | None:
    return getattr(tensor, "_keras_mask", None)


def _structure_of(model: Any, which: str) -> Any | None:
    """The symbolic "input" or "output" of a model, in its structure; None: it has none."""
    if isinstance(model, keras.Sequential):
        return getattr(model, f"{which}s")[0] if model.built and model.inputs else None
    return getattr(model, which) if isinstance(getattr(model, "inputs", None), list) else None


def _fits(given: Any, expected: Any) -> bool:
    if len(given.shape) != len(expected.shape):
        return False
    pairs = zip(given.shape, expected.shape, strict=True)
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def _shapes(structure: Any) -> str:
    return str(keras.tree.map_structure(lambda tensor: tensor.shape, structure))


def _node(tensor: Any) -> Any:
    """The call that has made a symbolic tensor."""
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def _nodes_before(tensors: Iterable[Any], stop: Iterable[Any] = ()) -> list[Any]:
    """The calls that `tensors` are computed from, from there down, not through those of `stop`."""
    stopped = {id(tensor) for tensor in stop}
    found: dict[int, Any] = {}
    waiting = [_node(tensor) for tensor in tensors if id(tensor) not in stopped]
    while waiting:
        node = waiting.pop(0)
        if id(node) not in found:
            found[id(node)] = node
            waiting += [_node(t) for t in node.input_tensors if id(t) not in stopped]
    return list(found.values())


def _outputs(nodes: Iterable[Any]) -> list[Any]:
    return [tensor for node in nodes for tensor in node.output_tensors]


def _outputs_of(model: Any, name: str, nodes: Sequence[Any]) -> list[Any]:
    """The outputs of a layer in all calls that the model is made of."""
    found = [node for node in nodes if node.operation.name == name]
    if found:
        return _outputs(reversed(found))
    existing = [layer.name for layer in model.layers]
    near = difflib.get_close_matches(str(name), existing, n=3)
    hint = f" Did you mean {', '.join(repr(each) for each in near)}?" if near else ""
    raise CutError(
        f"the model {model.name!r} has no layer of that name.{hint} "
        f"There are: {', '.join(existing)}. Received: {name!r}."
    )


def _used(tensors: Sequence[Any], above: Sequence[Any], outputs: Any) -> list[Any]:
    """Those of the tensors that the first part takes, each once."""
    taken = [tensor for node in above for tensor in node.input_tensors]
    taken_ids = {id(tensor) for tensor in [*taken, *keras.tree.flatten(outputs)]}
    return list({id(t): t for t in tensors if id(t) in taken_ids}.values())


def _check_around(
    names: Sequence[str],
    tensors: Sequence[Any],
    below: Sequence[Any],
    above: Sequence[Any],
    outputs: Any,
) -> None:
    """Checks that the first part takes nothing of the second part's but the tensors of the cut."""
    cut_ids = {id(tensor) for tensor in tensors}
    below_ids = {id(tensor) for tensor in _outputs(below)}
    around: dict[str, str] = {}
    taken = [(tensor, node.operation.name) for node in above for tensor in node.input_tensors]
    taken += [(tensor, "the model's output") for tensor in keras.tree.flatten(outputs)]
    for tensor, user in taken:
        is_input = isinstance(_node(tensor).operation, keras.layers.InputLayer)
        if id(tensor) not in cut_ids and (id(tensor) in below_ids or is_input):
            around.setdefault(_node(tensor).operation.name, user)
    if around:
        raise CutError(
            f"the cut does not separate the model: the outputs of {_list(around)} go round it, and "
            "the second part would not get their share of the gradient. Name them, too: "
            f"{[*names, *around]}. "
            f"Received: {', '.join(f'{name} -> {user}' for name, user in around.items())}."
        )


def _check_shared(below: Sequence[Any], above: Sequence[Any]) -> None:
    lower = {id(node.operation) for node in below}
    shared = {
        node.operation.name: None
        for node in above
        if id(node.operation) in lower and getattr(node.operation, "variables", None)
    }
    if shared:
        raise CutError(
            f"the cut lies between two uses of {_list(shared)}, so that both parts would train the "
            "same variables: move the cut, or name such a layer itself, so that all its outputs "
            f"cross. Received: {', '.join(shared)} on both sides."
        )


def _check_both_have_something(
    names: Sequence[str], below: Sequence[Any], above: Sequence[Any]
) -> None:
    for part, nodes in (("second", below), ("first", above)):
        if all(isinstance(node.operation, keras.layers.InputLayer) for node in nodes):
            raise CutError(
                f"no layer is left for the {part} part. Cut behind a layer between the model's "
                f"inputs and its last layer. Received: {_list(names)}."
            )


def _list(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
