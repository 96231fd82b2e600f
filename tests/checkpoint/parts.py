"""A model in two parts, with what a resumed run must not lose: slots, statistics, random states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop

BATCH, INPUTS, CLASSES = 8, 5, 3


def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    """The data of a step, whatever came before it."""
    random = np.random.Generator(np.random.Philox(key=step))
    x = random.normal(size=(BATCH, INPUTS)).astype(np.float32)
    return x, random.integers(0, CLASSES, BATCH)


class Training:
    """Both parts with their optimizers, and a step."""

    def __init__(
        self,
        *,
        seed: int = 0,
        units: int = 7,
        dtype: str = "float32",
        make_first: Callable[[], Any] = lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        make_second: Callable[[], Any] = lambda: keras.optimizers.AdamW(0.01),
        backend: str | None = None,
    ) -> None:
        keras.utils.set_random_seed(seed)
        layers = keras.layers
        self.second = keras.Sequential(
            [
                keras.Input((INPUTS,), dtype=dtype),
                layers.Dense(units, "relu", dtype=dtype),
                layers.Dropout(0.3, dtype=dtype),
                layers.BatchNormalization(dtype=dtype),
            ]
        )
        self.first = keras.Sequential(
            [keras.Input((units,), dtype=dtype), layers.Dense(CLASSES, dtype=dtype)]
        )
        self.first_optimizer, self.second_optimizer = make_first(), make_second()
        loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

        @tf.function(reduce_retracing=True)
        def train(x: Any, labels: Any) -> None:
            iv = self.second(x, training=True)
            loss = loss_fn(labels, self.first(iv))
            (seed,) = tf.gradients(loss, iv)
            first, second = self.first.trainable_variables, self.second.trainable_variables
            splitop.minimize(self.first_optimizer, loss, first, backend=backend)
            splitop.minimize(self.second_optimizer, iv, second, seed, backend=backend)

        self._train = train

    def train(self, start: int, stop: int) -> None:
        for step in range(start, stop):
            x, labels = batch(step)
            self._train(tf.constant(x), tf.constant(labels))

    def parts(self) -> dict[str, dict[str, Any]]:
        return {
            "first": {"model": self.first, "optimizer": self.first_optimizer},
            "second": {"model": self.second, "optimizer": self.second_optimizer},
        }

    def bits(self) -> list[bytes]:
        """All variables and slots, the states of random layers too."""
        return [part_bits for part in ("second", "first") for part_bits in self.part_bits(part)]

    def part_bits(self, part: str) -> list[bytes]:
        model, optimizer = getattr(self, part), getattr(self, f"{part}_optimizer")
        of_optimizer = optimizer.variables
        if callable(of_optimizer):  # TF1's
            of_optimizer = sorted(of_optimizer(), key=lambda v: (str(v.shape), v.numpy().tolist()))
        return [np.asarray(v).tobytes() for v in [*model.variables, *of_optimizer]]
