"""The second part of a SplitModel in micro-batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src.joint_step import Options, Part
from splitop._src.micro_batches import MicroBatches
from splitop._src.parts import call_part, check_no_mask
from splitop._src.planner import Plan


class ChunkedSecond:
    """What the second part gives, from a pass that keeps the activations of one micro-batch.

    Attributes:
        iv: IV of the whole batch.
        losses: What the part adds to the loss itself: that of the rows, then, if there is one, that
            of the weights.
    """

    def __init__(self, part: Any, x: Any, size: int) -> None:
        """Adds the forward pass to the graph.

        Args:
            part: A built Keras model.
            x: Its input.
            size: Rows of a micro-batch.

        Raises:
            SplitError: The part can't be computed twice: see `splitop.MicroBatches`.
        """
        self._part = part
        state = [*part.variables, *part.metrics_variables]
        self._chunks = MicroBatches(
            self._forward,
            x,
            size=size,
            state=[variable for variable in state if not variable.trainable],
            penalty="mean",
        )
        self._regularization = _sum([w.regularizer(w) for w in _regularized(part)])
        self.iv = tf.nest.map_structure(tf.cast, self._chunks.iv, self._dtypes)
        own = (self._chunks.penalty, self._regularization)
        self.losses: list[tf.Tensor] = [loss for loss in own if loss is not None]

    @property
    def tensors(self) -> list[Any]:
        """All that the seeded backward pass starts from."""
        return [*tf.nest.flatten(self.iv), *self.losses]

    def plan(self, seeds: Sequence[Any], options: Options, second: Part) -> Plan:
        """Plans the second part's step.

        Args:
            seeds: For each of `tensors`, times the loss scale of the part's optimizer.
            options: How to plan.
            second: The part.
        """
        carried = tf.nest.flatten(self._chunks.iv)
        count = len(carried)
        penalty_seed, *of_weights = seeds[count:]
        regularization = self._regularization
        if regularization is not None:
            # The seed is what the loss makes of it: a constant.
            (seed,) = of_weights
            regularization *= tf.stop_gradient(tf.cast(seed, regularization.dtype))
        return self._chunks.plan(
            second.optimizer,
            second.variables,
            tf.nest.pack_sequence_as(
                self.iv,
                [
                    tf.zeros_like(tensor) if seed is None else seed
                    for tensor, seed in zip(carried, seeds[:count], strict=True)
                ],
            ),
            penalty_seed=penalty_seed,
            regularization=regularization,
            **dataclasses.asdict(options),
        )

    def _forward(self, rows: Any) -> tuple[Any, tf.Tensor]:
        iv = call_part(self._part, rows)
        losses = self._part.losses  # Keras lists those of the weights last.
        of_rows = losses[: len(losses) - len(_regularized(self._part))]
        check_no_mask(iv, "cut the model by SplitModel.cut")
        self._dtypes = tf.nest.map_structure(lambda tensor: tensor.dtype, iv)
        return tf.nest.map_structure(_carried, iv), _sum(of_rows, tf.zeros([], _dtype()))


def _carried(tensor: Any) -> Any:
    """What leaves a micro-batch: masks and ids as floats that hold them, inputs as they are."""
    whole = tensor.dtype.is_integer or tensor.dtype.is_bool
    return tf.cast(tensor, tf.float64) if whole else tf.identity(tensor)


def _regularized(part: Any) -> list[Any]:
    return [weight for weight in part.trainable_weights if weight.regularizer is not None]


def _dtype() -> str:
    """In which Keras adds losses up."""
    return keras.config.floatx()


def _sum(losses: Sequence[Any], of_none: Any = None) -> Any:
    return tf.add_n([tf.cast(loss, _dtype()) for loss in losses]) if losses else of_none
