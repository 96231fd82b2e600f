"""Second parts of many kinds, a first part for any of them, and their batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop

CLASSES = 3
layers = keras.layers


@dataclasses.dataclass(frozen=True)
class Second:
    """A second part.

    Attributes:
        build: Makes it.
        shape: Of a sample of x.
        ids: How many ids x has to choose from; None: x is made of floats.
    """

    build: Callable[[], keras.Model]
    shape: tuple[int, ...]
    ids: int | None = None


def _attention() -> keras.Model:
    x = keras.Input((6, 8))
    h = layers.MultiHeadAttention(2, 4, dropout=0.3)(x, x)
    h = layers.LayerNormalization()(layers.Add()([x, h]))
    return keras.Model(x, {"a": h[:, 0], "b": (layers.Dense(3)(h),)})


def _sequential(shape: tuple[int, ...], *parts: Any, dtype: str | None = None) -> keras.Model:
    return keras.Sequential([keras.Input(shape, dtype=dtype), *parts])


SECOND = {
    "dense": Second(
        lambda: _sequential(
            (5,),
            layers.Dense(7, "relu", kernel_regularizer="l2"),
            layers.Dense(4, "tanh", activity_regularizer="l2"),
        ),
        (5,),
    ),
    "dropout, norm": Second(
        lambda: _sequential(
            (5,),
            layers.Dense(7, "gelu"),
            layers.Dropout(0.5),
            layers.BatchNormalization(),
            layers.Dense(4),
        ),
        (5,),
    ),
    "half": Second(
        lambda: _sequential(
            (5,),
            layers.Dense(7, "relu", dtype="mixed_float16"),
            layers.Dense(4, dtype="mixed_float16"),
        ),
        (5,),
    ),
    "lstm": Second(
        lambda: _sequential((6, 5), layers.LSTM(7), layers.Dropout(0.5), layers.Dense(4, "silu")),
        (6, 5),
    ),
    "stateful": Second(
        lambda: keras.Sequential(
            [
                keras.Input(batch_shape=(6, 4, 5)),
                layers.LSTM(7, stateful=True),
                layers.Dense(4),
            ]
        ),
        (4, 5),
    ),
    "attention": Second(_attention, (6, 8)),
    "conv": Second(
        lambda: _sequential(
            (8, 8, 1),
            layers.Conv2D(3, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(4),
        ),
        (8, 8, 1),
    ),
    "embedding": Second(
        lambda: _sequential(
            (3,),
            layers.Embedding(10, 4),
            layers.Flatten(),
            layers.Dense(4),
            dtype="int32",
        ),
        (3,),
        ids=10,
    ),
}


@keras.saving.register_keras_serializable("splitop_tests")
class First(keras.Model):
    """A dense layer on all intermediate vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = layers.Dense(CLASSES, kernel_regularizer="l2")

    def call(self, iv: Any) -> Any:
        rows = [layers.Flatten()(each) for each in tf.nest.flatten(iv)]
        return self.logits(tf.concat(rows, 1))


class Trained:
    """A model with its SplitStep, always the same at first.

    Attributes:
        second: The second part.
        first: The first part.
        optimizers: The first part's and the second part's.
        step: The SplitStep.
    """

    def __init__(self, kind: str = "dense", scaled: bool = False, **options: Any) -> None:
        keras.utils.set_random_seed(1)
        self._kind = SECOND[kind]
        self.second, self.first = self._kind.build(), First()
        # epsilon: the gradient of an attention's key biases is zero but for rounding.
        self.optimizers = (
            keras.optimizers.SGD(0.1, 0.9),
            keras.optimizers.Adam(0.01, epsilon=1e-3),
        )
        if scaled:
            self.optimizers = tuple(
                keras.optimizers.LossScaleOptimizer(each, initial_scale=2.0**power)
                for each, power in zip(self.optimizers, (9, 12), strict=True)
            )
        self.make_step(*self.optimizers, **options)

    def make_step(self, first_optimizer: Any, second_optimizer: Any, **options: Any) -> None:
        """Makes the SplitStep."""
        self.step = splitop.SplitStep(
            self.second,
            self.first,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            first_optimizer=first_optimizer,
            second_optimizer=second_optimizer,
            **options,
        )

    def batch(self, number: int, rows: int = 6) -> tuple[np.ndarray, np.ndarray]:
        """x and y of a batch."""
        random = np.random.default_rng(number)
        shape = (rows, *self._kind.shape)
        if self._kind.ids is None:
            x = random.normal(size=shape).astype(np.float32)
        else:
            x = random.integers(0, self._kind.ids, shape).astype(np.int32)
        return x, random.integers(0, CLASSES, rows)

    def in_parts(self, number: int, rows: int = 6, pass_seed: bool = True) -> float:
        """A step of each part; returns the loss."""
        x, y = self.batch(number, rows)
        iv = self.step.forward_second(x)
        loss, seed = self.step.train_first(iv, y)
        self.step.train_second(seed if pass_seed else None)
        return float(loss)

    def in_one(self, number: int, rows: int = 6) -> float:
        """A step of both parts; returns the loss."""
        return float(self.step.step(*self.batch(number, rows)))

    def state(self) -> dict[str, np.ndarray]:
        """All variables, counters and slots."""
        parts = (self.second, self.first, *self.optimizers)
        return {
            f"{position} {variable.path}": variable.numpy()
            for position, part in enumerate(parts)
            for variable in part.variables
        }
