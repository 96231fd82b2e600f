"""Trains a second part in micro-batches, and as plain TensorFlow does."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop
from tests.micro_batches.models import Case, contrastive

State = dict[str, np.ndarray]

MICRO, PLAIN = "micro", "plain"

# Keras numbers the layers of a process.
_COUNTER = re.compile(r"_\d+")


def adam() -> Any:
    """An optimizer with two slots."""
    return keras.optimizers.Adam(0.01, 0.9, 0.99, 1e-5)


class Trainer:
    """A second part with an optimizer, which trains by a loss of the whole batch."""

    def __init__(
        self,
        case: Case,
        path: str,
        policy: str = "float64",
        size: int = 4,
        optimizer: Callable[[], Any] = adam,
        loss: Callable[[Any], Any] = contrastive,
        by_chunk: bool = False,
        **options: Any,
    ):
        """Builds the model.

        Args:
            case: The second part.
            path: MICRO or PLAIN.
            policy: Of all layers.
            size: Rows of a micro-batch.
            optimizer: Makes the optimizer.
            loss: From the intermediate vectors.
            by_chunk: Whether the plain path, too, goes chunk by chunk, and keeps all activations.
            **options: Those of `plan`.
        """
        keras.utils.set_random_seed(0)
        self.model = case.build(policy)
        self.optimizer = optimizer()
        self.optimizer.build(self.model.trainable_variables)
        self.plan: splitop.Plan | None = None
        self.graph: Any = None
        self._size, self._loss, self._options = size, loss, options
        self._by_chunk = by_chunk
        build = self._micro if path == MICRO else self._plain
        self._step = tf.function(build, autograph=False, reduce_retracing=True)

    def step(self, inputs: Any) -> float:
        """Takes a step on a batch; returns the loss."""
        given = tf.nest.map_structure(self._tensor, inputs)
        return float(self._step(given))

    def state(self) -> State:
        """All variables by their position and name."""
        return {
            f"{number} {_COUNTER.sub('', variable.name)}": np.asarray(variable)
            for number, variable in enumerate(self._variables())
        }

    def set_state(self, state: State) -> None:
        """Sets all variables, in the dtypes that they have here."""
        for variable, value in zip(self._variables(), state.values(), strict=True):
            variable.assign(value.astype(variable.dtype))

    def _variables(self) -> list[Any]:
        return [*self.model.variables, *self.optimizer.variables]

    def _tensor(self, array: np.ndarray) -> tf.Tensor:
        dtype = self.model.inputs[0].dtype if array.dtype.kind == "i" else self.model.compute_dtype
        if array.dtype.kind == "f":
            dtype = self.model.layers[-1].compute_dtype
        return tf.constant(array, dtype)

    def _second(self, inputs: Any) -> Any:
        return self.model(inputs, training=True)

    def _micro(self, inputs: Any) -> tf.Tensor:
        chunks = splitop.MicroBatches(
            self._second, inputs, size=self._size, state=self.model.non_trainable_variables
        )
        loss = self._loss(chunks.iv)
        seeds = _seeds(loss, chunks.iv)
        variables = self.model.trainable_variables
        self.plan = chunks.plan(self.optimizer, variables, seeds, **self._options)
        self.plan.apply()
        self.graph = tf.compat.v1.get_default_graph()
        return loss

    def _plain(self, inputs: Any) -> tf.Tensor:
        if self._by_chunk:
            rows = tf.nest.flatten(inputs)[0].shape[0]
            parts = [
                self._second(tf.nest.map_structure(lambda x, s=s: x[s : s + self._size], inputs))
                for s in range(0, rows, self._size)
            ]
            iv = tf.nest.map_structure(lambda *chunks: tf.concat(chunks, 0), *parts)
        else:
            iv = self._second(inputs)
        loss = self._loss(iv)
        variables = self.model.trainable_variables
        options = {**self._options, "backend": "reference"}
        splitop.minimize(self.optimizer, iv, variables, _seeds(loss, iv), **options)
        return loss


def _seeds(loss: Any, iv: Any) -> Any:
    return tf.nest.pack_sequence_as(iv, tf.gradients(loss, tf.nest.flatten(iv)))


def run(trainer: Trainer, batches: Sequence[Any]) -> tuple[State, list[float]]:
    """The state after a step on each batch, and the losses."""
    losses = [trainer.step(batch) for batch in batches]
    return trainer.state(), losses


def assert_same(actual: tuple[State, list[float]], expected: tuple[State, list[float]]) -> None:
    """Compares float64 runs."""
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-9)
    assert actual[0].keys() == expected[0].keys()
    for name, value in expected[0].items():
        np.testing.assert_allclose(actual[0][name], value, rtol=1e-9, atol=1e-11, err_msg=name)


def assert_trained(before: State, after: State) -> None:
    """Every variable of the model and its slots have moved."""
    for name, value in before.items():
        if name.endswith(("learning_rate", "seed_generator_state")):
            continue
        assert (after[name] != value).any(), name
