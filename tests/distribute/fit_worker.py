"""One of two workers that fit SplitModels."""

from __future__ import annotations

import os
import signal
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
import splitop.keras
from tests.checkpoint.zygote import Killer
from tests.distribute import fitting, replicas

layers = keras.layers

CASES: dict[str, dict[str, Any]] = {
    "dense": {"name": "dense", "backend": "fused"},
    "embeddings": {"name": "embeddings", "backend": "fused"},
    "clipped": {"name": "dense", "backend": "fused", "clipping": {"global_clipnorm": 0.05}},
}
EPOCHS, BATCHES, ROWS = 4, 3, 8
TIMEOUT = 8  # seconds; the longest step is the first one


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _KillInStep(layers.Layer):
    """Passes its input on, but in one step: then the process dies in the middle of it."""

    def __init__(self, step: int | None) -> None:
        super().__init__()
        self._left = step

    def call(self, inputs: Any) -> Any:
        if self._left is None:
            return inputs
        with tf.control_dependencies([tf.py_function(self._count, [], [])]):
            return tf.identity(inputs)

    def _count(self) -> None:
        assert self._left is not None
        self._left -= 1
        if self._left < 0:
            _kill()


class _KillBetween(keras.callbacks.Callback):
    """Kills the process before a step, or at a file operation of the save after an epoch."""

    def __init__(self, step: int | None, event: int | None) -> None:
        super().__init__()
        self._left, self._killer, self._saves = step, Killer(event), 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._left == 0:
            _kill()
        self._left = None if self._left is None else self._left - 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._saves += 1
        if self._saves == 2:
            self._killer.start()


def fit_all(directory: str) -> tuple[dict[str, fitting.Fitted], dict[str, Any]]:
    """What CASES give, and `train`."""
    strategy = splitop.multi_worker_strategy(TIMEOUT)
    return _cases(strategy), _train(strategy, directory, None, None)


def train(directory: str, when: str | None = None, number: int | None = None) -> dict[str, Any]:
    """Trains on, up to the last epoch.

    Args:
        directory: That of the checkpoints.
        when: Where to kill the process: "before" or "in" a step, or while "saving" a second time.
        number: Which step of this process, or before which file operation of the save.
    """
    return _train(splitop.multi_worker_strategy(TIMEOUT), directory, when, number)


def start(timeout_seconds: float) -> None:
    """Waits for the other workers."""
    splitop.multi_worker_strategy(timeout_seconds)


def _train(strategy: Any, directory: str, when: str | None, number: int | None) -> dict[str, Any]:
    keras.utils.set_random_seed(0)
    keras.config.set_floatx("float64")
    die = {name: number if name == when else None for name in ("before", "in", "saving")}
    with strategy.scope():
        second = keras.Sequential(
            [
                keras.Input((3,), dtype="int32"),
                layers.Embedding(11, 4),
                layers.Flatten(),
                layers.Dense(40, "tanh"),
                layers.BatchNormalization(),
                layers.Dropout(0.3),
                _KillInStep(die["in"]),
            ]
        )
        first = keras.Sequential([keras.Input((40,)), layers.Dense(6, "relu"), layers.Dense(1)])
        model = splitop.keras.SplitModel(second, first)
        model.compile(
            keras.optimizers.Adam(0.01, global_clipnorm=0.5),
            keras.optimizers.Adam(0.01, global_clipnorm=0.5),
            "mse",
        )
    random = np.random.default_rng(1)
    x = random.integers(0, 11, size=(BATCHES * ROWS, 3))
    y = random.normal(size=(BATCHES * ROWS, 1))
    checkpoint = splitop.keras.SplitCheckpoint(directory)
    done = (checkpoint.latest or 0) // BATCHES
    model.fit(
        x,
        y,
        batch_size=ROWS,
        epochs=EPOCHS,
        initial_epoch=done,
        shuffle=False,
        verbose=0,
        callbacks=[_KillBetween(die["before"], die["saving"]), checkpoint],
    )
    states = [*model.variables, *model.second_optimizer.variables]
    return {
        "done": done,
        "step": checkpoint.step,
        "values": [v.numpy() for v in states],
    }


def _cases(strategy: Any) -> dict[str, fitting.Fitted]:
    count = strategy.num_replicas_in_sync
    replicas._strategies[count] = strategy
    with pytest.raises(splitop.SplitError, match="Received: steps_per_execution=3"):
        fitting.fit("dense", "auto", count, steps_per_execution=3)
    return {name: fitting.fit(count=count, **case) for name, case in CASES.items()}
