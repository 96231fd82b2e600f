"""Adagrad with one accumulator a row, as a Keras optimizer in plain TensorFlow.

`splitop/_src/optimizers` maps it to the fused rule; this is the reference path.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src.errors import SplitError


@keras.saving.register_keras_serializable(package="splitop")
class RowwiseAdagrad(keras.optimizers.Optimizer):
    """Adagrad with one accumulator for each row of a variable, for embedding tables.

    With g the gradient of row r, the sum of those of all places where r was looked up:

        s[r] += mean(g * g)
        w[r] -= learning_rate / (sqrt(s[r]) + epsilon) * g

    A table of 64 columns has a 64th of the state that Adagrad keeps for it. Rows that were not
    looked up stay as they are, unless weight decay applies to them: what a step costs does not
    depend on the size of the table.

    A row is what is under one index of a variable's first dimension. A matrix that is no table is
    updated by rows as well, each element of a vector is a row, and so is a scalar.

    This is a Keras optimizer like any other, with or without splitop's ops: in `model.compile`, in
    `splitop.minimize`, and saved with a model (import `splitop.keras` before you load it). The
    defaults are those of `keras.optimizers.Adagrad`.

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule`, or a callable
            that returns it.
        initial_accumulator_value: What each accumulator starts from; at least 0.
        epsilon: What is added to the root; at least 0. If it is 0, no accumulator may be.
        **options: What all Keras optimizers take: weight_decay, clipnorm, clipvalue,
            global_clipnorm, use_ema, ema_momentum, ema_overwrite_frequency, loss_scale_factor,
            gradient_accumulation_steps and name.

    Raises:
        SplitError: A negative number.

    Reference:
        FBGEMM's EXACT_ROWWISE_ADAGRAD without weight decay: `rowwise_adagrad` in
        https://github.com/pytorch/FBGEMM/blob/main/fbgemm_gpu/codegen/genscript/optimizers.py
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **options)
        _check_not_negative("initial_accumulator_value", initial_accumulator_value)
        _check_not_negative("epsilon", epsilon)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def build(self, variables: Sequence[Any]) -> None:
        """Creates the accumulators, which `splitop` calls slots."""
        if self.built:
            return
        super().build(variables)
        self._accumulators = [self._add_accumulator(variable) for variable in variables]

    def _add_accumulator(self, variable: Any) -> Any:
        if self._overwrite_variable_with_gradient(variable):
            return None  # As Keras has it for those that are never updated.
        own = variable.value if isinstance(variable, keras.Variable) else variable
        name = re.sub("[/:]", "_", getattr(variable, "path", variable.name))
        with self._distribution_strategy.extended.colocate_vars_with(own):
            return self.add_variable(
                shape=variable.shape[:1],
                initializer=keras.initializers.Constant(self.initial_accumulator_value),
                dtype=variable.dtype,
                name=f"{name}_accumulator",
            )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its accumulators.

        Args:
            gradient: A tensor, or tf.IndexedSlices of any number of slices a row.
            variable: The variable.
            learning_rate: That of this step.
        """
        gradient = tf.cast(gradient, variable.dtype)
        lr = tf.cast(learning_rate, variable.dtype)
        accumulator = self._accumulators[self._get_variable_index(variable)].value
        if isinstance(gradient, tf.IndexedSlices):
            rows, g = _one_slice_a_row(gradient)
            sums, step = self._step(g, tf.gather(accumulator, rows), variable.shape[1:], lr)
            sums, step = tf.IndexedSlices(sums, rows), tf.IndexedSlices(step, rows)
        else:
            sums, step = self._step(gradient, accumulator, variable.shape[1:], lr)
        self.assign(accumulator, sums)
        self.assign_sub(variable, step)

    def _step(
        self, g: tf.Tensor, sums: Any, row: tf.TensorShape, lr: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What the accumulators of some rows become, and what is subtracted from the rows."""
        squares = tf.reduce_sum(tf.square(g), axis=list(range(1, row.rank + 1)))
        sums = sums + squares / max(row.num_elements(), 1)
        factors = lr / (tf.sqrt(sums) + self.epsilon)
        return sums, factors[(..., *[tf.newaxis] * row.rank)] * g

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an optimizer like this one."""
        return {
            **super().get_config(),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }


def _one_slice_a_row(slices: tf.IndexedSlices) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows that have slices, and the sum of those of each."""
    rows, positions = tf.unique(slices.indices)
    return rows, tf.math.unsorted_segment_sum(slices.values, positions, tf.size(rows))


def _check_not_negative(name: str, value: float) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise SplitError(f"{name} must be at least 0, and finite. Received: {value!r}")
