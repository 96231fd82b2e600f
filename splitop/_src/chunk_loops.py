"""The two loops over the chunks of a batch: the forward pass, and the seeded backward pass.

Both take one chunk after the other, in order, so that only one has activations at a time, and the
gradients are added up in a fixed order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.chunking import Chunking


@dataclasses.dataclass(frozen=True, eq=False)
class Forward:
    """What the forward pass leaves behind.

    Attributes:
        ivs: The rows of all chunks, for each intermediate vector.
        penalty: The sum of the chunks' penalties, or None.
        recorded: The values that each variable of the state had before the chunks, [chunks, ...].
    """

    ivs: tuple[tf.Tensor, ...]
    penalty: tf.Tensor | None
    recorded: tuple[tf.Tensor, ...]


@dataclasses.dataclass(frozen=True)
class GradientSpec:
    """A gradient that a chunk gives: a tensor, or the slices of a table.

    Attributes:
        values: The tensor, or the values of the slices.
        indices: The rows of the slices; None: it is a tensor.
    """

    values: tf.TensorSpec
    indices: tf.TensorSpec | None = None


def in_function(graph: Any, build: Callable[[], Any]) -> Any:
    """Calls `build` in a function's graph, where operations on variables keep their order.

    Args:
        graph: The current graph; a TF1 graph orders nothing.
        build: Gives a nested structure of tensors.
    """
    return build() if graph.building_function else tf.function(build, autograph=False)()


def add_forward(
    graph: Any, chunking: Chunking, chunk: Any, structure: Any, state: Sequence[tf.Variable]
) -> Forward:
    """Adds the forward pass of all chunks to the graph.

    Args:
        graph: The current graph.
        chunking: The batch.
        chunk: The second part on a chunk, a ConcreteFunction from the tensors of `Chunking.take`
            to the intermediate vectors and the penalty, if there is one.
        structure: That of the intermediate vectors.
        state: The variables that it writes.
    """
    count = len(tf.nest.flatten(structure))
    outputs, recorded = in_function(graph, lambda: _run_forward(chunking, chunk, count, state))
    batch = tf.get_static_value(chunking.batch)
    specs = chunk.structured_outputs
    # TensorFlow would keep all activations for a gradient that flows back through the loop.
    outputs = [tf.stop_gradient(tensor, "iv") for tensor in outputs]
    for tensor, spec in zip(outputs[:count], specs[:count], strict=True):
        tensor.set_shape([None if batch is None else int(batch), *spec.shape[1:]])
    penalty = outputs[count] if len(outputs) > count else None
    return Forward(tuple(outputs[:count]), penalty, tuple(recorded))


def _run_forward(
    chunking: Chunking, chunk: Any, count: int, state: Sequence[tf.Variable]
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Runs the chunks; returns the vectors and the penalty, and the values of the state."""
    specs = list(chunk.structured_outputs)
    ivs = [_array(chunking, spec.dtype, (None, *spec.shape[1:])) for spec in specs[:count]]
    penalties = [tf.zeros([], spec.dtype) for spec in specs[count:]]
    recorded = [_array(chunking, variable.dtype, variable.shape) for variable in state]

    def body(number: Any, ivs: Any, penalties: Any, recorded: Any) -> Any:
        recorded = _write(recorded, number, [variable.read_value() for variable in state])
        outputs = chunk(*chunking.take(number))
        penalties = [total + each for total, each in zip(penalties, outputs[count:], strict=True)]
        return number + 1, _write(ivs, number, outputs[:count]), penalties, recorded

    _, ivs, penalties, recorded = _loop(chunking, body, (ivs, penalties, recorded))
    return [array.concat() for array in ivs] + penalties, [array.stack() for array in recorded]


def run_backward(
    chunking: Chunking,
    chunk: Any,
    specs: Sequence[GradientSpec],
    seeds: Sequence[tf.Tensor],
    penalty_seeds: Sequence[tf.Tensor],
    state: Sequence[tf.Variable],
    recorded: Sequence[tf.Tensor],
) -> list[list[tf.Tensor]]:
    """Adds the backward pass of all chunks; the state is afterwards as it was before.

    Args:
        chunking: The batch.
        chunk: The gradients of a chunk, a ConcreteFunction from the tensors of `Chunking.take`, the
            seeds of its rows and `penalty_seeds` to the tensors that `specs` tells of.
        specs: The gradients.
        seeds: dL/dIV of the whole batch.
        penalty_seeds: What every chunk gets as it is.
        state: The variables that the second part writes.
        recorded: Their values before each chunk.

    Returns:
        For each gradient its sum, or the values and the rows of all slices.
    """
    now = [variable.read_value() for variable in state]
    sums = [
        [tf.zeros(spec.values.shape, spec.values.dtype)]
        if spec.indices is None
        else [
            _array(chunking, part.dtype, (None, *part.shape[1:]))
            for part in (spec.values, spec.indices)
        ]
        for spec in specs
    ]

    def body(number: Any, sums: Any) -> Any:
        for variable, values in zip(state, recorded, strict=True):
            variable.assign(values[number])
        bounds = chunking.bounds(number)
        rows = [chunking.rows_of(seed, bounds) for seed in seeds]
        gradients = iter(chunk(*chunking.take(number), *rows, *penalty_seeds))
        added = [
            [parts[0] + next(gradients)]
            if spec.indices is None
            else _write(parts, number, [next(gradients), next(gradients)])
            for spec, parts in zip(specs, sums, strict=True)
        ]
        return number + 1, added

    _, sums = _loop(chunking, body, (sums,))
    for variable, value in zip(state, now, strict=True):
        variable.assign(value)
    return [
        parts if spec.indices is None else [array.concat() for array in parts]
        for spec, parts in zip(specs, sums, strict=True)
    ]


def _loop(chunking: Chunking, body: Any, start: tuple[Any, ...]) -> Any:
    return tf.while_loop(
        lambda number, *_: number < chunking.count,
        body,
        (tf.constant(0), *start),
        parallel_iterations=1,  # One chunk has activations at a time.
    )


def _array(chunking: Chunking, dtype: tf.DType, shape: Any) -> tf.TensorArray:
    """One element for each chunk."""
    return tf.TensorArray(dtype, chunking.count, element_shape=shape, infer_shape=False)


def _write(arrays: Sequence[Any], number: Any, values: Sequence[Any]) -> list[Any]:
    return [array.write(number, value) for array, value in zip(arrays, values, strict=True)]
