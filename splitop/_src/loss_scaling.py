"""Loss scales of two optimizers on one loss: each part's is undone once, by its own optimizer.

The backward pass through the first part is scaled as the first optimizer wants it, and so is the
seed that comes out of it. Before it goes on into the second part, its scale becomes that of the
second optimizer. `None` stands for a scale of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src.optimizers.base import tf_variable


def loss_scale(optimizer: Any) -> tf.Tensor | None:
    """By what the optimizer divides gradients: a float32 scalar, or None if it doesn't."""
    scales = getattr(optimizer, "scale_loss", None)  # TF1's optimizers have none.
    if scales is None:
        return None
    one = tf.ones([])
    scale = scales(one)
    return None if scale is one else tf.cast(scale, tf.float32)


def scaled(loss: tf.Tensor, scale: tf.Tensor | None) -> tf.Tensor:
    """The loss times a scale."""
    return loss if scale is None else loss * tf.cast(scale, loss.dtype)


def rescaled(
    seed: tf.Tensor | None, old: tf.Tensor | None, new: tf.Tensor | None
) -> tf.Tensor | None:
    """A gradient that was scaled by `old`, scaled by `new`; in its own dtype."""
    if seed is None or old is new:
        return seed
    factor = (1.0 if new is None else new) / (1.0 if old is None else old)
    # 16 bits may not hold the factor.
    wide = tf.float64 if seed.dtype == tf.float64 else tf.float32
    return tf.cast(tf.cast(seed, wide) * tf.cast(factor, wide), seed.dtype)


def dynamic_scale(optimizer: Any) -> tf.Variable | None:
    """The variable of a loss scale that the optimizer moves, or None."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) and optimizer.built:
        return tf_variable(optimizer.dynamic_scale)
    return None


def lower_if_overflown(
    optimizer: Any, before: tf.Tensor, seeds: Sequence[tf.Tensor | None]
) -> None:
    """Halves the first part's scale if a seed has overflown, though its own gradients have not.

    Otherwise the scale would stay, the seed would overflow for ever, and the second part would
    never train.

    Args:
        optimizer: The first part's, a LossScaleOptimizer; it has taken its step.
        before: Its scale before that step.
        seeds: The seeds, scaled by it.
    """
    finite = all_finite(seeds)
    scale = tf_variable(optimizer.dynamic_scale)
    counter = tf_variable(optimizer.step_counter)
    after = scale.read_value()
    scale.assign(tf.where(finite, after, tf.minimum(after, before / 2)))
    counter.assign(tf.where(finite, counter.read_value(), 0))


def all_finite(tensors: Sequence[tf.Tensor | None]) -> tf.Tensor:
    """Whether there is no Inf and no NaN in any of the tensors: a boolean scalar."""
    finite = [tf.reduce_all(tf.math.is_finite(t)) for t in tensors if t is not None]
    return tf.reduce_all(tf.stack(finite)) if finite else tf.constant(True)


def norm(tensors: Sequence[tf.Tensor | None], scale: tf.Tensor | None) -> tf.Tensor:
    """The l2 norm over all tensors, which `scale` multiplies: a float32 scalar."""
    present = [tf.cast(tensor, tf.float32) for tensor in tensors if tensor is not None]
    length = tf.linalg.global_norm(present) if present else tf.zeros([])
    return length if scale is None else length / scale
