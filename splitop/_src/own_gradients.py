"""Gradients of layer normalizations, convolutions, pooling and softmax by ops of splitop's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from splitop._src import replicas
from splitop._src.graph import reach
from splitop._src.graph.convolutions import Convolution, match_convolution
from splitop._src.graph.layer_norms import LayerNorm, match_layer_norm
from splitop._src.graph.rewire import give_instead, is_taken_by_functions
from splitop._src.own_convolution import emit_convolution
from splitop._src.own_norm import emit_norm
from splitop._src.own_pool import own_pool_gradients
from splitop._src.own_softmax import own_softmax_gradients
from splitop._src.xla import in_xla


@contextlib.contextmanager
def own_gradients(graph: Any, ivs: Sequence[Any], xs: Sequence[Any]) -> Iterator[list[Any]]:
    """Has tf.gradients make some gradients by ops of splitop's own.

    Meanwhile the results of norms and convolutions are those of such ops, which have that gradient,
    and pooling, relu before it and softmax name another one. After that all is as it was: only the
    gradients differ. In the graph of a tf.function, on CPUs, outside XLA, which has ways of its
    own, and where nobody else sees the graph meanwhile.

    Args:
        graph: The current one.
        ivs: Where the gradients start.
        xs: Where they end.

    Yields:
        Where to start instead.
    """
    operations = _before(graph, ivs)
    new: dict[Any, Any] = {}
    old: list[tuple[Any, Any]] = []
    ends = {x.ref() for x in xs if isinstance(x, tf.Tensor)}
    for found, emit in _found(operations):
        # A gradient that ends inside needs what is inside.
        if not any(tensor.ref() in ends for op in found.ops for tensor in op.outputs):
            result = emit(found)
            old.append((found.y, result))
            new[found.y.ref()] = result
    try:
        for y, result in old:
            give_instead(y, result)
        with own_pool_gradients(operations, ends), own_softmax_gradients(operations):
            yield [new.get(iv.ref(), iv) for iv in ivs]
    finally:
        for y, result in old:
            give_instead(result, y)


def _before(graph: Any, ivs: Sequence[Any]) -> list[Any]:
    """The operations that may have such gradients, in the order of creation."""
    if not graph.building_function or in_xla(graph) or replicas.take_turns_in_gradients():
        return []
    before = reach.ancestors(ivs)
    return [op for op in graph.get_operations() if op in before]


def _found(
    operations: Sequence[Any],
) -> list[tuple[LayerNorm | Convolution, Callable[[Any], Any]]]:
    """Norms and convolutions, and what adds their ops."""
    found: list[tuple[Any, Callable[[Any], Any]]] = []
    for op in operations:
        norm, convolution = match_layer_norm(op), match_convolution(op, activated=False)
        if norm is not None:
            found.append((norm, emit_norm))
        elif convolution is not None:
            found.append((convolution, emit_convolution))
    return [(each, emit) for each, emit in found if not is_taken_by_functions(each.y)]
