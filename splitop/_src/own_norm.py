"""Layer normalization by ops of splitop's own, which read and write a row once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.graph import reach
from splitop._src.graph.layer_norms import LayerNorm, match_layer_norm
from splitop._src.graph.rewire import give_instead, takes_elsewhere
from splitop._src.xla import in_xla


@contextlib.contextmanager
def own_norm_gradients(graph: Any, ivs: Sequence[Any], xs: Sequence[Any]) -> Iterator[list[Any]]:
    """Has tf.gradients make the gradients of layer normalizations by ops of splitop's own.

    Meanwhile their results are those of such ops, which have that gradient. After that all is as it
    was: only the gradients differ. In the graph of a tf.function, on CPUs, outside XLA, which fuses
    TensorFlow's.

    Args:
        graph: The current one.
        ivs: Where the gradients start.
        xs: Where they end.

    Yields:
        Where to start instead.
    """
    new: dict[Any, Any] = {}
    old: list[tuple[Any, Any]] = []
    ends = {x.ref() for x in xs if isinstance(x, tf.Tensor)}
    for norm in _norms(graph, ivs):
        # A gradient that ends inside needs what is inside.
        if not any(tensor.ref() in ends for op in norm.ops for tensor in op.outputs):
            result = emit_norm(norm)
            old.append((norm.y, result))
            new[norm.y.ref()] = result
    try:
        for y, result in old:
            give_instead(y, result)
        yield [new.get(iv.ref(), iv) for iv in ivs]
    finally:
        for y, result in old:
            give_instead(result, y)


def _norms(graph: Any, ivs: Sequence[Any]) -> list[LayerNorm]:
    if not graph.building_function or in_xla(graph):
        return []
    before = reach.ancestors(ivs)
    found = [match_layer_norm(op) for op in graph.get_operations() if op in before]
    return [norm for norm in found if norm is not None and not takes_elsewhere(norm.y)]


def emit_norm(norm: LayerNorm) -> Any:
    """Adds the op `Splitop>LayerNorm` (csrc/tf/layer_norm_op.cpp); returns its result."""
    graph = norm.y.graph
    with (
        graph.control_dependencies(None),
        graph.colocate_with(None, ignore_existing=True),
        graph.device(norm.y.op.device),
    ):
        result = library.load().splitop_layer_norm(
            x=norm.x, gamma=norm.gamma, beta=norm.beta, epsilon=norm.epsilon, name=norm.y.op.name
        )
    result.set_shape(norm.y.shape)
    return result


@tf.RegisterGradient("Splitop>LayerNorm")
def _gradient(op: Any, gradient: Any) -> list[Any]:
    x, gamma, _, epsilon = op.inputs
    grads = library.load().splitop_layer_norm_grad(dy=gradient, x=x, gamma=gamma, epsilon=epsilon)
    return [*grads, None]
