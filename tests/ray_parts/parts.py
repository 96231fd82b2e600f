"""Small parts with state of every kind, as their owners would write them; and one process."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

import splitop
from splitop.ray import FirstPart, Rows, SecondPart

SAMPLES, CLASSES = 41, 3
KEYS = [f"id-{number}" for number in range(SAMPLES)]
WIDTHS = {"bank": 7, "shop": 5}
layers = keras.layers


def inputs(name: str) -> np.ndarray:
    """The features that a party has of all samples, in the order of KEYS."""
    draw = np.random.default_rng(sum(map(ord, name)))
    return draw.normal(size=(SAMPLES, WIDTHS[name])).astype(np.float32)


def labels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, CLASSES, SAMPLES).astype(np.int32)


def encoder_model(name: str, dropout: float = 0.3) -> keras.Model:
    """With masks and statistics, which move in the forward pass."""
    keras.utils.set_random_seed(len(name) + WIDTHS[name])
    return keras.Sequential(
        [
            keras.Input((WIDTHS[name],)),
            layers.Dense(9, "relu", kernel_regularizer="l2"),
            layers.Dropout(dropout, seed=WIDTHS[name], name="masks"),
            layers.BatchNormalization(),
            layers.Dense(6, "tanh"),
        ]
    )


def head_model(names: Sequence[str], dropout: float = 0.3) -> keras.Model:
    keras.utils.set_random_seed(3)
    ivs = [keras.Input((6,)) for _ in names]
    joined = layers.Concatenate()(ivs) if len(ivs) > 1 else ivs[0]
    hidden = layers.Dropout(dropout, seed=1, name="masks")(layers.Dense(8, "gelu")(joined))
    return keras.Model(ivs if len(ivs) > 1 else ivs[0], layers.Dense(CLASSES)(hidden))


def second_optimizer() -> Any:
    return keras.optimizers.AdamW(keras.optimizers.schedules.ExponentialDecay(0.01, 5, 0.9))


def first_optimizer() -> Any:
    return keras.optimizers.SGD(0.1, momentum=0.9)


loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def encoder(name: str, missing: int = 0, dropout: float = 0.3) -> SecondPart:
    """A second part, which has all samples but the first few, in an order of its own."""
    order = np.random.default_rng(len(name)).permutation(np.arange(missing, SAMPLES))
    rows = Rows([KEYS[row] for row in order], inputs(name)[order])
    return SecondPart(model=encoder_model(name, dropout), optimizer=second_optimizer(), data=rows)


def bank() -> SecondPart:
    return encoder("bank")


def head(names: Sequence[str] = ("bank",), dropout: float = 0.3) -> FirstPart:
    return FirstPart(
        model=head_model(names, dropout),
        optimizer=first_optimizer(),
        loss=loss,
        data=Rows(KEYS, labels()),
    )


def careful_encoder() -> SecondPart:
    """Leaves a step out whose seed is not finite."""
    return dataclasses.replace(encoder("bank"), skip_nonfinite=True)


def overflowing_head() -> FirstPart:
    """Its gradients overflow until the loss scale has been halved some times."""
    optimizer = keras.optimizers.LossScaleOptimizer(first_optimizer(), initial_scale=3e38)
    return dataclasses.replace(
        head(), optimizer=optimizer, loss=lambda y, prediction: 9.0 * loss(y, prediction)
    )


def telling_encoder(folder: str) -> SecondPart:
    """Writes a file for each batch that it is asked for, under the name of its first key."""
    part = encoder("bank")

    def tell(keys: np.ndarray) -> Any:
        (pathlib.Path(folder) / str(keys[0])).touch()
        return part.data(keys)

    return dataclasses.replace(part, data=tell)


def waiting_head(folder: str, last: str) -> FirstPart:
    """Has the labels of a batch once the encoder has been asked for the next one."""
    part = head()

    def wait(keys: np.ndarray) -> Any:
        following = pathlib.Path(folder) / KEYS[KEYS.index(keys[0]) + len(keys)]
        while keys[0] != last and not following.exists():
            time.sleep(0.01)
        return part.data(keys)

    return dataclasses.replace(part, data=wait)


class OneProcess:
    """The same training in one process: a SplitStep, in three calls or in one.

    All second parts are one model with one optimizer here.
    """

    def __init__(self, names: Sequence[str] = ("bank",), in_one: bool = False) -> None:
        self.seconds = {name: encoder_model(name) for name in names}
        self.first = head_model(names)
        x = [keras.Input((WIDTHS[name],)) for name in names]
        ivs = [model(each) for model, each in zip(self.seconds.values(), x, strict=True)]
        joined = keras.Model(x, ivs) if len(names) > 1 else self.seconds[names[0]]
        self._step = splitop.SplitStep(
            joined,
            self.first,
            loss,
            first_optimizer=first_optimizer(),
            second_optimizer=second_optimizer(),
            reduce_retracing=False,
        )
        self._in_one = in_one
        self._inputs = [inputs(name) for name in names]

    def train(self, batches: Callable[[int], Any], steps: int) -> dict[int, float]:
        losses = {}
        for step in range(steps):
            rows = [KEYS.index(key) for key in batches(step)]
            x = [values[rows] for values in self._inputs]
            losses[step + 1] = float(self._train(x if len(x) > 1 else x[0], labels()[rows]))
        return losses

    def _train(self, x: Any, y: Any) -> Any:
        if self._in_one:
            return self._step.step(x, y)
        first = self._step.train_first(self._step.forward_second(x), y)
        self._step.train_second(first.seed)
        return first.loss
