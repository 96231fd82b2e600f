"""`splitop.keras.SplitCheckpoint`: in fit of any model that names its parts and optimizers."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop import CheckpointError
from splitop.keras import SplitCheckpoint
from tests.checkpoint.parts import CLASSES, INPUTS, Training
from tests.keras.models import CASES, assert_same_bits, split_model, state

CASE = CASES["everything"]

X = np.random.default_rng(0).normal(size=(24, INPUTS)).astype(np.float32)
LABELS = np.arange(24) % CLASSES


class Split(keras.Model):
    """A model in two parts, as a user may write it."""

    def __init__(self, run: Training) -> None:
        super().__init__()
        self.first_part, self.second_part = run.first, run.second
        self.first_optimizer, self.second_optimizer = run.first_optimizer, run.second_optimizer

    def call(self, x: Any, training: bool = False) -> Any:
        return self.first_part(self.second_part(x, training=training))

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        iv = self.second_part(x, training=True)
        loss = self.compute_loss(y=y, y_pred=self.first_part(iv))
        (seed,) = tf.gradients(loss, iv)
        first, second = self.first_part.trainable_variables, self.second_part.trainable_variables
        splitop.minimize(self.first_optimizer, loss, first)
        splitop.minimize(self.second_optimizer, iv, second, seed)
        return {"loss": loss}


def _fit(run: Training, callback: SplitCheckpoint, epochs: int, **options: Any) -> None:
    model = Split(run)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, jit_compile=False, steps_per_execution=options.pop("together", 1))
    callbacks = [callback, *options.pop("more", [])]
    settings = {"batch_size": 4, "shuffle": False, "verbose": 0} | options  # 6 batches an epoch
    model.fit(X, LABELS, epochs=epochs, callbacks=callbacks, **settings)


def test_fit_goes_on_to_the_same_bits(tmp_path: pathlib.Path) -> None:
    run, stopped, other = Training(), Training(), Training(seed=1)
    callback = SplitCheckpoint(tmp_path / "run", keep=None)
    assert callback.latest is None
    _fit(run, callback, 4)
    assert callback.step == 24

    directory = tmp_path / "stopped"
    _fit(stopped, SplitCheckpoint(directory), 2)
    callback = SplitCheckpoint(directory)
    assert callback.latest == 12
    _fit(other, callback, 4, initial_epoch=callback.latest // 6)
    assert (callback.step, callback.latest) == (24, 24)
    assert other.bits() == run.bits() != stopped.bits()

    # splitop.Checkpoint reads them, too.
    checkpoint = splitop.Checkpoint(tmp_path / "run", **other.parts())
    assert checkpoint.steps == (6, 12, 18, 24)
    assert checkpoint.restore(12) == 12
    assert other.bits() == stopped.bits()


@pytest.mark.parametrize(
    ("every", "together", "steps"), [(4, 1, (4, 8, 12)), (4, 3, (6, 9, 12)), (7, 1, (7,))]
)
def test_every(every: int, together: int, steps: tuple[int, ...], tmp_path: pathlib.Path) -> None:
    run = Training()
    _fit(run, SplitCheckpoint(tmp_path, every=every, keep=None), 2, together=together)
    assert splitop.Checkpoint(tmp_path, **run.parts()).steps == steps


def test_epochs_that_are_interrupted(tmp_path: pathlib.Path) -> None:
    """What is done of an epoch is not counted twice, however often it begins anew."""

    class Stop(Exception):
        pass

    class Interrupts(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 4:
                raise Stop

    run = Training()
    for _ in range(3):
        callback = SplitCheckpoint(tmp_path, every=2, keep=None)
        assert (callback.latest or 0) // 6 == 0
        with pytest.raises(Stop):
            _fit(run, callback, 2, more=[Interrupts()])
        assert callback.latest == 4
    _fit(run, SplitCheckpoint(tmp_path, every=2), 2)
    assert SplitCheckpoint(tmp_path).latest == 12


def test_without_restore(tmp_path: pathlib.Path) -> None:
    _fit(Training(), SplitCheckpoint(tmp_path), 1)
    run, alone = Training(seed=1), Training(seed=1)
    callback = SplitCheckpoint(tmp_path, restore=False)
    _fit(run, callback, 1)
    _fit(alone, SplitCheckpoint(tmp_path / "alone"), 1)
    assert callback.step == 6
    assert run.bits() == alone.bits()


def _fit_split_model(directory: pathlib.Path, epochs: int, start: int = 0, **steps: int) -> Any:
    """Three batches an epoch."""
    model = split_model(CASE, **steps)
    callback = SplitCheckpoint(directory)
    settings = {"batch_size": 16, "shuffle": False, "verbose": 0, "initial_epoch": start}
    model.fit(*CASE.data(), epochs=epochs, callbacks=[callback], **settings)
    return model


def test_parts_that_train_at_different_frequencies(tmp_path: pathlib.Path) -> None:
    """The first part trains in batches 3 and 7 (from 0): of the second epoch and of the third."""
    steps = {"first_steps": 1, "second_steps": 4}
    whole = _fit_split_model(tmp_path / "whole", 3, **steps)
    assert whole.first_optimizer.iterations.numpy() == 2
    _fit_split_model(tmp_path / "stopped", 1, **steps)
    resumed = _fit_split_model(tmp_path / "stopped", 3, 1, **steps)
    assert_same_bits(state(resumed), state(whole))


def test_a_checkpoint_of_another_frequency(tmp_path: pathlib.Path) -> None:
    _fit_split_model(tmp_path / "equal", 1)
    message = r'must have variable "batches:0" \(batches\) too\. Received: a checkpoint with'
    with pytest.raises(CheckpointError, match=message):
        _fit_split_model(tmp_path / "equal", 2, second_steps=2)
    _fit_split_model(tmp_path / "unequal", 1, second_steps=2)
    with pytest.raises(CheckpointError, match="it must have the variables batches:0 too"):
        _fit_split_model(tmp_path / "unequal", 2)


def _frozen(directory: pathlib.Path, epochs: int, start: int = 0) -> Any:
    """A model whose first part is frozen, and has no optimizer."""
    model = split_model(CASES["dense"])
    model.first_part.trainable = False
    model.compile(second_optimizer=keras.optimizers.Adam(0.01), loss="mse")
    settings = {"batch_size": 16, "shuffle": False, "verbose": 0, "initial_epoch": start}
    x, y = CASES["dense"].data()
    model.fit(x, y, epochs=epochs, callbacks=[SplitCheckpoint(directory)], **settings)
    return model


def test_a_frozen_part_without_an_optimizer(tmp_path: pathlib.Path) -> None:
    whole = _frozen(tmp_path / "whole", 3)
    _frozen(tmp_path / "stopped", 1)
    assert_same_bits(state(_frozen(tmp_path / "stopped", 3, 1)), state(whole))


def test_errors(tmp_path: pathlib.Path) -> None:
    SplitCheckpoint(tmp_path, every=np.int64(5), keep=np.int64(3))
    message = r'every must be a whole number from 1, of batches, or "epoch"\. Received: '
    for every in (0, -1, True, "batch", 1.5):
        with pytest.raises(CheckpointError, match=message):
            SplitCheckpoint(tmp_path, every=every)
    with pytest.raises(CheckpointError, match="keep must be a whole number from 1, or None"):
        SplitCheckpoint(tmp_path, keep=0)
    model = keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(CheckpointError, match=r"Received: Sequential without first_part, second_"):
        model.fit(X, LABELS, verbose=0, callbacks=[SplitCheckpoint(tmp_path)])
