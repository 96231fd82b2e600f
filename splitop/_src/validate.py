"""Checks of what the user passes in, before anything is built from it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from splitop._src import replicas, user_code
from splitop._src.errors import CutError, SeedError, SplitError, VariableListError
from splitop._src.names import describe, tensor_name, unique_variable_names, variable_name
from splitop._src.optimizers.base import tf_variable


@dataclasses.dataclass(frozen=True, eq=False)
class Trainable:
    """A variable to train.

    Attributes:
        given: The user's object, tf.Variable or keras.Variable: what the optimizer knows.
        variable: The tf.Variable; on a replica of a tf.distribute strategy, its own copy.
        name: What the user calls it; unique among the variables of a call.
    """

    given: Any
    variable: Any
    name: str


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """The checked arguments of a call.

    Attributes:
        graph: The graph that is being built.
        ivs: The intermediate vectors, flattened.
        iv_label: What messages call them.
        seeds: dL/dIV for each of them, or None for ones.
        variables: The variables to train.
    """

    graph: Any
    ivs: tuple[Any, ...]
    iv_label: str
    seeds: tuple[Any | None, ...]
    variables: tuple[Trainable, ...]


def check_call(
    iv: Any, var_list: Any, grad_ys: Any, caller: str, iv_label: str | None = None
) -> Call:
    """Checks `iv`, `var_list` and `grad_ys` as far as the graph shows them.

    Args:
        iv: A float tensor of the current graph, or a nested structure of them.
        var_list: Variables.
        grad_ys: None, or tensors in the structure of `iv`.
        caller: Name of the public function, for messages.
        iv_label: What messages call `iv`; None: iv and its names.

    Raises:
        SplitError: Not inside a graph.
        CutError: `iv` can't be differentiated.
        SeedError: `grad_ys` does not fit `iv`.
        VariableListError: `var_list` holds something that can't be trained.
    """
    graph = current_graph(caller)
    ivs = check_iv(iv, graph)
    return Call(
        graph=graph,
        ivs=ivs,
        iv_label=iv_label or "iv " + ", ".join(f'"{tensor.name}"' for tensor in ivs),
        seeds=_check_seeds(iv, ivs, grad_ys),
        variables=check_variables(var_list, graph),
    )


class _Ones:
    """What stands for a seed that was left out."""

    def __repr__(self) -> str:
        return "ones"


ONES = _Ones()


def check_seeded_call(iv: Any, var_list: Any, grad_ys: Any, caller: str) -> Call:
    """`check_call` of what a user gives; `grad_ys` may be ONES.

    Warns of a None that may be no wish for ones: tf.gradients returns it where no gradient flows.
    """
    call = check_call(iv, var_list, None if grad_ys is ONES else grad_ys, caller)
    vectors = [tensor for tensor in call.ivs if tensor.shape.rank != 0]
    if grad_ys is None and vectors:
        warnings.warn(
            f"splitop.{caller} seeds with ones, as grad_ys is None. If tf.gradients(loss, iv) has "
            "returned it, the loss does not depend on iv; if ones are meant, leave grad_ys out. "
            f"Received: grad_ys=None for {', '.join(map(describe, vectors))}.",
            UserWarning,
            stacklevel=user_code.stack_level(),
        )
    return call


def current_graph(caller: str) -> Any:
    """The graph being built; an eager call has none."""
    if tf.executing_eagerly():
        call = "an eager call"
        if tf.config.functions_run_eagerly():
            call += ", as tf.config.run_functions_eagerly is on"
        raise SplitError(
            f"splitop.{caller} builds graph operations: call it inside a tf.function, or "
            f"under `with tf.Graph().as_default():`. Received: {call}."
        )
    replicas.check_context(caller)
    return tf.compat.v1.get_default_graph()


def check_iv(iv: Any, graph: Any) -> tuple[Any, ...]:
    """The intermediate vectors, flattened; each a float tensor of `graph`."""
    ivs = tuple(tf.nest.flatten(iv))
    if not ivs:
        raise CutError("iv must be a tensor or a nested structure of tensors. Received: none.")
    for tensor in ivs:
        if not isinstance(tensor, tf.Tensor):
            raise CutError(
                "iv must be a tensor, or a nested structure of tensors, of the graph that is "
                f"being built. Received: {describe(tensor)}."
            )
        if getattr(tensor, "graph", None) is not graph:
            raise CutError(
                f'iv "{tensor_name(tensor)}" must belong to the graph that is being built: '
                "compute it inside the same tf.function or tf.Graph. Received: "
                "a tensor of another graph."
            )
        if not tensor.dtype.is_floating:
            raise CutError(
                f'iv "{tensor.name}" must be of a floating dtype: no gradient flows through '
                f"integers. Received: {tensor.dtype.name}."
            )
        if 0 in (tensor.shape.as_list() if tensor.shape.rank is not None else []):
            raise CutError(
                f'iv "{tensor.name}" is empty: a batch needs at least one row. '
                f"Received: {tensor.shape}."
            )
        if tensor.op.type == "Placeholder":
            raise CutError(
                f'iv "{tensor.name}" is a placeholder: nothing computes it, so no gradient '
                "flows through it to any variable. Pass the tensor that the second part "
                f"computes. Received: {describe(tensor)}."
            )
    return ivs


def check_variables(var_list: Any, graph: Any) -> tuple[Trainable, ...]:
    """The variables of a list, each trainable, in the graph, and there once."""
    if isinstance(var_list, (tf.Variable, tf.Tensor)) or not isinstance(var_list, Iterable):
        raise VariableListError(
            f"var_list must be a list of variables. Received: {describe(var_list)}."
        )
    given = list(var_list)
    if not given:
        raise VariableListError(
            "var_list must not be empty; a model has no variables until it is built (called "
            "once, or given an input shape), and no trainable ones while it is frozen. "
            "Received: an empty list."
        )
    variables = [_check_variable(item, index, graph) for index, item in enumerate(given)]
    names = unique_variable_names(given)
    first: dict[int, int] = {}
    for index, variable in enumerate(variables):
        other = first.setdefault(id(variable), index)
        if other != index:
            raise VariableListError(
                f'var_list must hold each variable once. Received: "{names[index]}" at '
                f"positions {other} and {index}."
            )
    return tuple(
        Trainable(item, variable, name)
        for item, variable, name in zip(given, variables, names, strict=True)
    )


def _check_variable(item: Any, index: int, graph: Any) -> Any:
    """The tf.Variable of an entry of the list."""
    variable = _tf_variable(item, index)
    name = variable_name(item)
    if not item.trainable:
        raise VariableListError(
            f'variable "{name}" at position {index} of var_list is not trainable. '
            "Received: trainable=False."
        )
    if not graph.building_function and getattr(variable, "graph", None) is not graph:
        raise VariableListError(
            f'variable "{name}" at position {index} of var_list must belong to the graph that '
            "is being built; create it under the same `with graph.as_default():`. Received: "
            "a variable of another graph, or an eager one."
        )
    if replicas.was_created_elsewhere(variable):
        raise VariableListError(
            f'variable "{name}" at position {index} of var_list must have a copy on each replica '
            "of the tf.distribute strategy: create it under `with strategy.scope():`. Received: a "
            "variable from outside of this scope."
        )
    return variable


def _tf_variable(item: Any, index: int) -> Any:
    if isinstance(item, tf.Tensor):
        raise VariableListError(
            f"var_list must hold variables only, but position {index} is a tensor. The "
            "gradient of the intermediate vector is a result, not a variable: get it from "
            "tf.gradients(loss, iv) or from SplitOps.iv_gradients. "
            f"Received: {describe(item)}."
        )
    try:
        return tf_variable(item)
    except VariableListError:
        raise VariableListError(
            "var_list must hold tf.Variable or keras.Variable objects that have a value; "
            f"position {index} is no variable (list.append and list.extend return None; a model "
            "has no values until it is built; the parts of a partitioned variable are variables). "
            f"Received: {describe(item)}."
        ) from None


def _check_seeds(iv: Any, ivs: tuple[Any, ...], grad_ys: Any) -> tuple[Any | None, ...]:
    if grad_ys is None:
        return (None,) * len(ivs)
    # For a single vector, a list of numbers is one seed, not a structure.
    tensors = (tf.Tensor, tf.IndexedSlices)
    numbers = not any(isinstance(leaf, tensors) for leaf in tf.nest.flatten(grad_ys))
    single = isinstance(iv, tf.Tensor) and numbers
    seeds = [grad_ys] if single else flatten_like(iv, grad_ys, _GRAD_YS)
    return tuple(_check_seed(seed, tensor) for seed, tensor in zip(seeds, ivs, strict=True))


_GRAD_YS = (
    "grad_ys must have the structure of iv: one seed for each intermediate vector, in the same "
    "order; tf.gradients returns a list: (seed,) = tf.gradients(loss, iv)."
)


def flatten_like(
    iv: Any, seeds: Any, must: str, shown: Callable[[Any], Any] = tensor_name
) -> list[Any]:
    """The seeds, flat.

    Args:
        iv: The intermediate vectors, in any structure.
        seeds: One for each.
        must: What a message says of the structure.
        shown: What a message shows of a tensor.

    Raises:
        SeedError: They have another structure.
    """
    try:
        tf.nest.assert_same_structure(iv, seeds)
    except (TypeError, ValueError):
        expected, received = (tf.nest.map_structure(shown, each) for each in (iv, seeds))
        raise SeedError(f"{must} Expected: {expected}. Received: {received}.") from None
    return list(tf.nest.flatten(seeds))


def _check_seed(seed: Any, iv: Any) -> Any:
    """The seed of one intermediate vector, as a tensor of its dtype and of a shape that fits."""
    if seed is None:
        raise SeedError(
            f'the seed of "{iv.name}" is missing. No gradient is not a zero gradient: pass '
            "tf.zeros_like(iv) if that is meant. Received: None."
        )
    if not isinstance(seed, (tf.Tensor, np.ndarray, np.generic)):
        seed = _convert_seed(seed, iv)
    if isinstance(seed, tf.Tensor) and not _is_usable(seed, iv.graph):
        raise SeedError(
            f'the seed "{tensor_name(seed)}" of "{iv.name}" must belong to the graph that is '
            "being built. Received: a tensor of another graph, or an eager one."
        )
    dtype = tf.as_dtype(seed.dtype)
    if dtype != iv.dtype:
        raise SeedError(
            f'the seed "{tensor_name(seed)}" must have the dtype of the intermediate vector '
            f'"{iv.name}", {iv.dtype.name}. Received: {dtype.name}.'
        )
    shape = tf.TensorShape(seed.shape)
    if not shape.is_compatible_with(iv.shape):
        hint = ""
        if iv.shape.rank == 0:
            hint = " iv must be the intermediate vector itself, not the loss computed from it."
        raise SeedError(
            f'the seed "{tensor_name(seed)}" must have the shape of the intermediate vector '
            f'"{iv.name}", {iv.shape}.{hint} Received: {shape}.'
        )
    if 0 in (shape.as_list() if shape.rank is not None else []):
        raise SeedError(
            f'the seed "{tensor_name(seed)}" of "{iv.name}" is empty: a batch needs at least '
            f"one row. Received: {shape}."
        )
    return seed


def _is_usable(tensor: Any, graph: Any) -> bool:
    # A tf.function captures tensors from outside.
    return graph.building_function or getattr(tensor, "graph", None) is graph


def _convert_seed(seed: Any, iv: Any) -> Any:
    try:
        return tf.convert_to_tensor(seed, dtype=iv.dtype)
    except (TypeError, ValueError):
        raise SeedError(
            f'the seed of "{iv.name}" must be a dense tensor of {iv.dtype.name}. '
            f"Received: {describe(seed)}."
        ) from None
