"""Keras' callbacks on a SplitModel, on either optimizer."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop.keras import ForSecondPart
from tests.keras.models import CASES, adam, assert_same_bits, fit, joint_model, split_model, state

CASE = CASES["dense"]
callbacks = keras.callbacks

# What Keras itself warns of when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


def rates(model: Any) -> list[float]:
    return [float(o.learning_rate.numpy()) for o in (model.optimizer, model.second_optimizer)]


def test_learning_rate_scheduler_on_either_part() -> None:
    model = split_model(CASE)
    history = fit(
        model,
        *CASE.data(),
        callbacks=[
            callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
            ForSecondPart(callbacks.LearningRateScheduler(lambda epoch, rate: rate * 3)),
        ],
    )
    np.testing.assert_allclose(rates(model), [0.0025, 0.09], 1e-6)
    np.testing.assert_allclose(history["learning_rate"], [0.005, 0.0025], 1e-6)
    np.testing.assert_allclose(history["second_learning_rate"], [0.03, 0.09], 1e-6)


def test_reduce_on_plateau_on_the_second_part() -> None:
    model = split_model(CASE)
    never_better = callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    history = fit(model, *CASE.data(), epochs=4, callbacks=[ForSecondPart(never_better)])
    np.testing.assert_allclose(rates(model), [0.01, 0.01 / 2**3], 1e-6)
    assert "learning_rate" not in history
    assert len(history["second_learning_rate"]) == 4


def test_schedules_hear_of_batches_and_may_stop_training() -> None:
    heard = []

    class Stops(callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            heard.append((batch, self.model.optimizer is model.second_optimizer, sorted(logs)))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            assert self.params["epochs"] == 2
            assert len(self.model.trainable_variables) == 4
            self.model.stop_training = True

    model = split_model(CASE)
    history = fit(model, *CASE.data(), callbacks=[ForSecondPart(Stops())])
    assert heard == [(batch, True, ["loss", "seed_norm"]) for batch in range(3)]
    assert len(history["loss"]) == 1


def test_unfit_for_the_second_part() -> None:
    with pytest.raises(splitop.SplitError, match=r"takes a keras\.callbacks.*Received: 3"):
        ForSecondPart(3)
    with pytest.raises(splitop.SplitError, match="works on a SplitModel"):
        fit(
            joint_model(CASE),
            *CASE.data(),
            callbacks=[ForSecondPart(callbacks.LearningRateScheduler(lambda epoch: 0.1))],
        )


def test_early_stopping_restores_the_best_weights() -> None:
    x, y = CASE.data()
    best = split_model(CASE)
    fit(best, x, y, epochs=1)
    model = split_model(CASE)
    stop = callbacks.EarlyStopping(
        "loss", patience=2, min_delta=1e9, restore_best_weights=True, start_from_epoch=0
    )
    history = fit(model, x, y, epochs=9, callbacks=[stop])
    assert len(history["loss"]) == 3
    weights = zip(model.get_weights(), best.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in weights)


@pytest.mark.parametrize("weights_only", [False, True])
def test_model_checkpoint(tmp_path: pathlib.Path, weights_only: bool) -> None:
    x, y = CASE.data()
    path = tmp_path / ("m.weights.h5" if weights_only else "m.keras")
    model = split_model(CASE)
    keep = callbacks.ModelCheckpoint(path, save_weights_only=weights_only)
    fit(model, x, y, callbacks=[keep])
    if weights_only:
        loaded = split_model(CASE)
        loaded.load_weights(path)
    else:
        loaded = keras.models.load_model(path)
    assert_same_bits(state(loaded), state(model))


def test_backup_and_restore(tmp_path: pathlib.Path) -> None:
    x, y = CASE.data()
    whole = split_model(CASE)
    fit(whole, x, y, epochs=3)

    class Interrupts(callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                raise KeyboardInterrupt

    backup = callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fit(split_model(CASE), x, y, epochs=3, callbacks=[backup, Interrupts()])
    model = split_model(CASE)
    history = fit(model, x, y, epochs=3, callbacks=[callbacks.BackupAndRestore(tmp_path)])
    assert len(history["loss"]) == 1
    assert_same_bits(state(model), state(whole))


def test_tensorboard(tmp_path: pathlib.Path) -> None:
    board = callbacks.TensorBoard(tmp_path, histogram_freq=1, update_freq=1)
    x, y = CASE.data()
    fit(split_model(CASE), x, y, callbacks=[board], validation_data=(x, y))
    tags = set()
    for file in (tmp_path / "train").glob("events*"):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            tags |= {value.tag for value in event.summary.value}
    assert {"epoch_loss", "epoch_seed_norm", "batch_seed_norm", "epoch_learning_rate"} <= tags
    assert any("low/kernel" in tag for tag in tags)


def test_other_callbacks(tmp_path: pathlib.Path) -> None:
    fit(
        split_model(CASE),
        *CASE.data(),
        callbacks=[
            callbacks.TerminateOnNaN(),
            callbacks.CSVLogger(tmp_path / "log.csv"),
            callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
        ],
    )
    head = (tmp_path / "log.csv").read_text().splitlines()[0]
    assert head.startswith("epoch,loss,seed_norm")


def test_callbacks_of_frozen_first_parts_act_on_the_second() -> None:
    model = split_model(CASE)
    model.first_part.trainable = False
    model.compile(None, adam(), "mse")
    fit(model, *CASE.data(), callbacks=[callbacks.LearningRateScheduler(lambda epoch: 0.5)])
    assert float(model.second_optimizer.learning_rate.numpy()) == 0.5
