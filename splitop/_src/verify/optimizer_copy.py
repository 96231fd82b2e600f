"""Copies of optimizers, so that verifying leaves no trace in the user's own objects."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src.errors import SplitError

TF1_OPTIMIZER = tf.compat.v1.train.Optimizer


def state_of(optimizer: Any) -> list[Any]:
    """All variables of an optimizer's state in the current graph, as it has them."""
    return list(
        optimizer.variables() if isinstance(optimizer, TF1_OPTIMIZER) else optimizer.variables
    )


def eager_copy(optimizer: Any, variables: Sequence[Any]) -> Any:
    """An optimizer with the same state, which may share the variables that hold it.

    A Keras optimizer that is built is given back as it is: it has no state but its variables.

    Args:
        optimizer: The user's.
        variables: What it trains.
    """
    if isinstance(optimizer, TF1_OPTIMIZER):
        return _tf1_copy(optimizer, lambda value: value)
    if optimizer.built:
        return optimizer
    made = fresh_keras(optimizer)
    made.build([*variables])
    for ours, theirs in zip(made.variables, optimizer.variables, strict=False):
        ours.assign(theirs)
    return made


def graph_copy(optimizer: Any, source: Any, target: Any) -> Any:
    """A TF1 optimizer of one graph for a copy of this graph, on the copies of its slots."""

    def counterpart(value: Any) -> Any:
        if value is source:
            return target
        if isinstance(value, tf.Variable):
            return variable_in(target, value)
        if isinstance(value, tf.Tensor) and getattr(value, "graph", None) is source:
            return target.get_tensor_by_name(value.name)
        return value

    return _tf1_copy(optimizer, counterpart)


def variable_in(graph: Any, variable: Any) -> Any:
    """The variable of the same name in a copy of its graph.

    Raises:
        SplitError: There is none.
    """
    for found in graph_variables(graph):
        if found.name == variable.name:
            return found
    raise SplitError(
        f'variable "{variable.name}" must be in a collection of its graph, GLOBAL_VARIABLES or '
        "LOCAL_VARIABLES, to be verified. Received: a variable without a collection."
    )


def graph_variables(graph: Any) -> list[Any]:
    """All variables in the collections of a graph."""
    keys = tf.compat.v1.GraphKeys
    found = [
        variable
        for key in (keys.GLOBAL_VARIABLES, keys.LOCAL_VARIABLES, keys.TRAINABLE_VARIABLES)
        for variable in graph.get_collection(key)
    ]
    return list({variable.name: variable for variable in found}.values())


def fresh_keras(optimizer: Any) -> Any:
    """A Keras optimizer with the same options in the current graph: its state is to be copied.

    Raises:
        SplitError: It can't be made from its configuration.
    """
    try:
        made = type(optimizer).from_config(_with_any_rate(optimizer).get_config())
    except Exception as error:
        raise SplitError(
            f"optimizer '{optimizer.name}' can't be copied by its get_config and from_config; "
            "build it for its variables before, optimizer.build(variables), so that no copy is "
            f"needed. Received: {error!r}"
        ) from error
    # exclude_from_weight_decay is no part of the configuration.
    for name, value in vars(optimizer).items():
        if name not in vars(made) and name.startswith("_exclude_from_weight_decay"):
            setattr(made, name, copy.copy(value))
    return made


def _with_any_rate(optimizer: Any) -> Any:
    """The optimizer, without the learning rate's variable: in a graph it can't be asked for."""
    if not isinstance(vars(optimizer).get("_learning_rate"), keras.Variable):
        return optimizer
    shell = object.__new__(type(optimizer))
    vars(shell).update(vars(optimizer), _learning_rate=None)
    return shell


def _tf1_copy(optimizer: Any, counterpart: Callable[[Any], Any]) -> Any:
    made = copy.copy(optimizer)
    for name, value in vars(optimizer).items():
        object.__setattr__(made, name, _mapped(value, counterpart))
    return made


def _mapped(value: Any, counterpart: Callable[[Any], Any]) -> Any:
    if isinstance(value, TF1_OPTIMIZER):
        return _tf1_copy(value, counterpart)
    if isinstance(value, dict):
        return {
            _mapped(key, counterpart): _mapped(item, counterpart) for key, item in value.items()
        }
    if type(value) in (list, tuple):
        return type(value)(_mapped(item, counterpart) for item in value)
    return counterpart(value)
