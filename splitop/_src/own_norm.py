"""Layer normalization by ops of splitop's own, which read and write a row once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.graph import reach
from splitop._src.graph.layer_norms import LayerNorm, match_layer_norm
from splitop._src.graph.rewire import beside, give_instead, is_taken_by_functions
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
    return [norm for norm in found if norm is not None and not is_taken_by_functions(norm.y)]


def emit_norm(norm: LayerNorm) -> Any:
    """Adds the op `Splitop>LayerNorm` (csrc/tf/layer_norm_op.cpp); returns its result."""
    with beside(norm.y.op):
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


@tf.RegisterGradient("Splitop>LayerNormGrad")
def _gradient_of_gradient(op: Any, *gradients: Any) -> list[Any]:
    """That of the same gradient by TensorFlow's operations."""
    # Tensors of the current graph: those of the op may be of another one.
    *inputs, epsilon = map(tf.identity, op.inputs)
    if not tf.executing_eagerly():  # No tape may record there.
        results = _by_tensorflow(inputs, epsilon)
        return [*tf.gradients(results, inputs, list(gradients)), None]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        results = _by_tensorflow(inputs, epsilon)
    return [*tape.gradient(results, inputs, list(gradients)), None]


def _by_tensorflow(inputs: Sequence[Any], epsilon: Any) -> list[Any]:
    dy, x, gamma = inputs
    mean = tf.reduce_mean(x, -1, keepdims=True)
    # tf.nn.moments does not differentiate the mean in the variance, and so this neither.
    off = x - tf.stop_gradient(mean)
    scale = tf.math.rsqrt(tf.reduce_mean(off**2, -1, keepdims=True) + epsilon)
    h, g = (x - mean) * scale, dy * gamma
    along_row = tf.reduce_mean(g * h, -1, keepdims=True)
    dx = scale * (g - tf.reduce_mean(g, -1, keepdims=True) - off * scale * along_row)
    leading = tf.range(tf.rank(x) - 1)
    return [dx, tf.reduce_sum(dy * h, leading), tf.reduce_sum(dy, leading)]
