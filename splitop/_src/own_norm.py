"""Layer normalization by ops of splitop's own, which read and write a row once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.graph.layer_norms import LayerNorm
from splitop._src.graph.rewire import beside


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
