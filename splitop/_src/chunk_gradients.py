"""The gradients of the second part's variables, added up over the chunks of a batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src.chunk_loops import Forward, GradientSpec, in_function, run_backward
from splitop._src.chunk_tables import collected, put_together
from splitop._src.chunking import Chunking
from splitop._src.errors import SplitError
from splitop._src.graph.gradient_graph import GradientGraph
from splitop._src.names import describe
from splitop._src.reference import Reference, build_reference
from splitop._src.run_time_checks import check_seeds
from splitop._src.second_part import SecondPart, wide
from splitop._src.validate import Call, Trainable


@dataclasses.dataclass(frozen=True, eq=False)
class ChunkGradients:
    """The backward pass of a chunk.

    Attributes:
        function: A ConcreteFunction from the tensors of `Chunking.take` and the seeds to the
            tensors that `specs` tells of.
        specs: One for each variable.
        kinds: What each gives: see `chunk_tables`; None: a tensor.
    """

    function: Any
    specs: tuple[GradientSpec, ...]
    kinds: tuple[str | None, ...]


def build_gradients(
    call: Call,
    part: SecondPart,
    chunking: Chunking,
    forward: Forward,
    state: Sequence[tf.Variable],
    regularization: tf.Tensor | None,
    check_numerics: bool,
) -> Reference:
    """Adds the backward pass of all chunks to the graph.

    Args:
        call: The step; the penalty is its last intermediate vector, if there is one.
        part: The second part.
        chunking: The batch.
        forward: Its forward pass.
        state: The variables that the second part writes.
        regularization: A loss that counts once, or None.
        check_numerics: Whether NaN or Inf in a seed is an error at run time.

    Returns:
        The gradients, as those of plain TensorFlow on the whole batch would be.

    Raises:
        CutError: An op on the way has no gradient.
        VariableListError: A variable that no gradient reaches.
        SplitError: `regularization` is none, or a table whose slices can't be put together.
    """
    begin = len(call.graph.get_operations())
    of_weights = _regularization_gradients(call, regularization)
    checked = check_seeds(call.ivs, call.seeds, check_numerics)
    seeds = [seed.checked for seed in checked.seeds]
    chunk = _trace(call, part, chunking, seeds)
    count = len(forward.ivs)

    def backward() -> Any:
        return run_backward(
            chunking,
            chunk.function,
            chunk.specs,
            seeds[:count],
            seeds[count:],
            state,
            forward.recorded,
        )

    # A TF1 graph might set the state back before the forward pass is done.
    with tf.control_dependencies([tensor.op for tensor in forward.ivs]):
        sums = in_function(call.graph, backward)
    gradients = [
        _gradient(item, parts, kind, once)
        for item, parts, kind, once in zip(
            call.variables, sums, chunk.kinds, of_weights, strict=True
        )
    ]
    return Reference(
        gradients=tuple(gradients),
        extra=(),
        ops=tuple(call.graph.get_operations()[begin:]),
        checked=checked,
    )


def _trace(
    call: Call, part: SecondPart, chunking: Chunking, seeds: Sequence[tf.Tensor]
) -> ChunkGradients:
    """Traces the gradients of a chunk."""
    specs = chunking.specs()
    given = [
        tf.TensorSpec([chunking.rows, *seed.shape[1:]] if seed.shape.rank else [], seed.dtype)
        for seed in seeds
    ]
    kinds: list[str | None] = []

    def gradients(*tensors: tf.Tensor) -> list[tf.Tensor]:
        outputs = part.outputs(tensors[: len(specs)])
        names = ", ".join(f'"{tensor.name}"' for tensor in outputs.ivs)
        reference = build_reference(
            Call(
                graph=tf.compat.v1.get_default_graph(),
                ivs=(*outputs.ivs, *outputs.penalties),
                iv_label=f"iv {names}",
                seeds=tuple(tensors[len(specs) :]),
                variables=call.variables,
            )
        )
        graph = GradientGraph(reference.ops, reference.gradients)
        found = [
            _of_chunk(item, gradient, graph)
            for item, gradient in zip(call.variables, reference.gradients, strict=True)
        ]
        kinds[:] = [kind for kind, _ in found]
        return [tensor for _, parts in found for tensor in parts]

    traced = tf.function(gradients, autograph=False).get_concrete_function(*specs, *given)
    outputs = iter(traced.structured_outputs)
    return ChunkGradients(
        function=traced,
        specs=tuple(
            GradientSpec(tf.TensorSpec(item.variable.shape, next(outputs).dtype))
            if kind is None
            else GradientSpec(next(outputs), next(outputs))
            for item, kind in zip(call.variables, kinds, strict=True)
        ),
        kinds=tuple(kinds),
    )


def _of_chunk(
    item: Trainable, gradient: Any, graph: GradientGraph
) -> tuple[str | None, list[tf.Tensor]]:
    """What a chunk gives of a gradient: a tensor in the dtype for sums, or slices."""
    if isinstance(gradient, tf.IndexedSlices):
        return collected(item, gradient, graph)
    return None, [tf.cast(gradient, wide(gradient.dtype))]


def _gradient(item: Trainable, parts: Sequence[Any], kind: str | None, once: Any) -> Any:
    """The gradient of a variable, from the sum or the slices of all chunks."""
    if kind is None:
        gradient = tf.cast(parts[0], item.variable.dtype)
    else:
        gradient = put_together(item, kind, *parts)
    if once is None:
        return gradient
    if isinstance(gradient, tf.IndexedSlices) and isinstance(once, tf.IndexedSlices):
        values = tf.concat([gradient.values, once.values], 0)
        rows = [tf.cast(each.indices, tf.int64) for each in (gradient, once)]
        return tf.IndexedSlices(values, tf.concat(rows, 0), gradient.dense_shape)
    return tf.convert_to_tensor(gradient) + tf.convert_to_tensor(once)


def _regularization_gradients(call: Call, regularization: Any) -> list[Any]:
    """The gradients of a loss that is computed from the variables themselves; None where none."""
    if regularization is None:
        return [None] * len(call.variables)
    fits = (
        getattr(regularization, "graph", None) is call.graph
        and regularization.dtype.is_floating
        and regularization.shape.rank == 0
    )
    if not fits:
        raise SplitError(
            "regularization must be a float scalar of the graph that is being built. "
            f"Received: {describe(regularization)}."
        )
    gradients = tf.gradients(regularization, [item.variable for item in call.variables])
    if all(gradient is None for gradient in gradients):
        raise SplitError(
            f'regularization "{regularization.name}" must be computed from variables of var_list, '
            f"outside of the second part. Received: none of {_names(call)} reaches it."
        )
    return list(gradients)


def _names(call: Call) -> str:
    return ", ".join(f'"{item.name}"' for item in call.variables)
