"""The adapter of keras.optimizers.LossScaleOptimizer, around that of its inner optimizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src.optimizers.accumulation import Accumulation
from splitop._src.optimizers.base import GradientOptions, tf_variable
from splitop._src.optimizers.keras import KerasAdapter
from splitop._src.optimizers.rules import UpdateRule


class LossScaleAdapter(KerasAdapter):
    """Unscales the gradients, and leaves out a step with one that is not finite."""

    def __init__(self, optimizer: Any, inner: KerasAdapter) -> None:
        """Wraps the adapter of `optimizer.inner_optimizer`."""
        super().__init__(optimizer)
        self._inner = inner

    def rule(self) -> UpdateRule | str:
        return self._inner.rule()

    def gradient_options(self) -> GradientOptions:
        return dataclasses.replace(
            self._inner.gradient_options(), loss_scale=self._scale, finite_only=True
        )

    def accumulation(self) -> Accumulation | None:
        return self._inner.accumulation()

    def replaces(self, variable: Any) -> bool:
        return self._inner.replaces(variable)

    def slots(self, variable: Any) -> tuple[tf.Variable, ...]:
        return self._inner.slots(variable)

    def existing_slots(self, variable: Any) -> tuple[tf.Variable, ...]:
        return self._inner.existing_slots(variable)

    def decayed(self, variable: Any) -> bool:
        return self._inner.decayed(variable)

    def updates_all_rows(self, variable: Any) -> bool:
        return self._inner.updates_all_rows(variable)

    def adds_up_slices(self) -> bool:
        return self._inner.adds_up_slices()

    def hyper(self, dtype: tf.DType) -> tf.Tensor:
        return self._inner.hyper(dtype)

    def finish(
        self,
        fused: Sequence[tf.Operation],
        declined: Sequence[tuple[Any, Any]],
        global_step: Any | None,
        condition: tf.Tensor | None = None,
    ) -> tf.Operation:
        if condition is None:  # Nothing is fused: it does all by itself.
            return super().finish(fused, declined, global_step, condition)
        scale = self._scale()
        unscaled = [
            (g if self.replaces(variable) else keras.ops.divide(g, scale), variable)
            for g, variable in declined
        ]
        step = self._inner.finish(fused, unscaled, global_step, condition)
        with tf.control_dependencies([step]):
            return self._move_scale(condition)

    def _check_conditions(self) -> None:
        self._inner._check_conditions()

    def _needs_slots(self) -> bool:
        return True  # The scale is read before.

    def _scale(self) -> tf.Tensor:
        return tf_variable(self._optimizer.dynamic_scale).read_value()

    def _move_scale(self, finite: tf.Tensor) -> tf.Operation:
        """What Keras does to the scale after a step: doubled once in a while, or halved."""
        counter = tf_variable(self._optimizer.step_counter)
        steps = counter.read_value()
        due = tf.equal(steps, self._optimizer.dynamic_growth_steps - 1)
        counted = tf.where(finite & ~due, steps + 1, 0)
        factor = tf.where(finite, tf.where(due, 2.0, 1.0), 0.5)
        scale = tf_variable(self._optimizer.dynamic_scale)
        moved = scale.read_value() * tf.cast(factor, scale.dtype)
        return tf.group(
            counter.assign(counted, read_value=False), scale.assign(moved, read_value=False)
        )
