"""What is done to the gradients of a step between the backward pass and the update.

The maths is Keras' (keras/src/optimizers/base_optimizer.py), worked out in float64.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src.norms import SquaredNorms
from splitop._src.optimizers import GradientOptions

NONE, BOUNDS, EXACT = "none", "bounds", "exact"


class Clipping:
    """The factor and the bound of each gradient, and whether the step is done at all.

    `resolve` before the rest; without norms it needs none.

    Attributes:
        norms: What has to be known of all gradients beforehand: "none", "bounds" (whether they are
            finite) or "exact" (their norms).
        condition: A boolean scalar: whether the step is done; None: it always is.
    """

    def __init__(self, options: GradientOptions):
        self._options = options
        self.condition: tf.Tensor | None = None
        self._scales: tf.Tensor | None = None  # float64, [variables] or a scalar
        self._positions: dict[int, int] = {}  # of the variables' scales
        self._global: tf.Tensor | None = None  # the part of them that comes from the global norm
        if options.clip in ("norm", "global_norm"):
            self.norms = EXACT
        else:
            self.norms = BOUNDS if options.finite_only else NONE

    @property
    def is_on(self) -> bool:
        """Whether gradients are clipped in any way."""
        return self._options.clip is not None

    @property
    def by_global_norm(self) -> bool:
        """Whether the gradients of all variables are scaled by one factor."""
        return self._options.clip == "global_norm"

    def after_exchange(self) -> Clipping:
        """What is done to the sum of the gradients of all replicas; set its `condition`."""
        return Clipping(GradientOptions())

    def before_accumulation(self) -> Clipping:
        """What is done to a gradient before it is added to others."""
        return Clipping(dataclasses.replace(self._options, clip=None, bound=0.0))

    def after_accumulation(self, steps: int) -> Clipping:
        """What is done to the sum of the gradients of so many steps: their mean is clipped."""

        def divisor() -> tf.Tensor:
            return tf.constant(steps, tf.float64)

        return Clipping(GradientOptions(self._options.clip, self._options.bound, divisor))

    @property
    def changes_gradients(self) -> bool:
        """Whether there is anything to do, or to know."""
        return self._options != GradientOptions()

    @property
    def may_skip(self) -> bool:
        """Whether the step is left out if the gradients are not finite."""
        return self._options.finite_only

    @property
    def by_one_factor(self) -> bool:
        """Whether all that is done to gradients is to multiply them by one factor."""
        return self._options.clip in (None, "global_norm")

    @property
    def by_value(self) -> bool:
        """Whether each element is clipped."""
        return self._options.clip == "value"

    def resolve(self, norms: SquaredNorms) -> None:
        """Adds what follows from the norms of the gradients, if they are needed, to the graph."""
        options = self._options
        inverse = None
        if options.loss_scale is not None:
            inverse = 1 / tf.cast(options.loss_scale(), tf.float64)
        self._scales = inverse
        if self.norms == NONE:
            return
        squared_norms, self._positions = norms.values(), norms.positions
        if options.finite_only:
            self.condition = tf.reduce_all(tf.math.is_finite(squared_norms))
        if self.norms == EXACT:
            unscaled = tf.sqrt(squared_norms) * (1 if inverse is None else inverse)
            scales = self._norm_scales(unscaled, norms.clipped)
            self._scales = scales if inverse is None else scales * inverse

    def _norm_scales(self, norms: tf.Tensor, clipped: Sequence[int]) -> tf.Tensor:
        bound = tf.constant(self._options.bound, tf.float64)
        if self._options.clip == "norm":
            return bound / tf.maximum(norms, bound)
        norm = tf.norm(tf.gather(norms, clipped))
        self._global = bound * tf.minimum(1 / norm, 1 / bound) + (norm - norm)
        return tf.fill(tf.shape(norms), self._global)

    def scale(self, index: int, dtype: tf.DType) -> tf.Tensor | None:
        """What the gradient of the variable of that index is multiplied by; None: nothing."""
        if self._scales is None:
            return None
        scales = self._scales
        if scales.shape.rank == 1:
            scales = scales[self._positions[index]]
        return tf.cast(scales, dtype)

    def clips(self, indices: Sequence[int], dtype: tf.DType) -> tf.Tensor | None:
        """Scale and bound for some variables, [variables, 2]; None if they change nothing."""
        if self._scales is None and not self.by_value:
            return None
        scales = tf.ones([], tf.float64) if self._scales is None else self._scales
        if scales.shape.rank == 0:
            scales = tf.fill([len(indices)], scales)
        else:
            scales = tf.gather(scales, [self._positions[index] for index in indices])
        bound = self._options.bound if self.by_value else math.inf
        return tf.cast(tf.stack([scales, tf.fill(tf.shape(scales), _double(bound))], 1), dtype)

    def clip(self, gradient: Any, index: int) -> Any:
        """A gradient, or the values of a tf.IndexedSlices, as `clips` would have it."""
        scale = self.scale(index, gradient.dtype)
        if scale is not None:
            gradient = gradient * scale
        if self.by_value:
            bound = self._options.bound
            gradient = tf.clip_by_value(gradient, -bound, bound)
        return gradient

    def clip_by_all(self, gradient: Any) -> Any:
        """A gradient with what an optimizer can't do that is given a part of them."""
        return (
            gradient if self._global is None else gradient * tf.cast(self._global, gradient.dtype)
        )


def _double(value: float) -> tf.Tensor:
    return tf.constant(value, tf.float64)
