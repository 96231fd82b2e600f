"""`fit` and its relatives with everything that Keras offers around the training step."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src import xla
from splitop._src.split_model import compiling
from splitop.keras import SplitModel
from tests.keras.models import (
    CASES,
    AddsLoss,
    adam,
    assert_like_joint,
    assert_same_bits,
    build,
    fit,
    rows,
    split_model,
    state,
)

CASE = CASES["everything"]


def test_data_set() -> None:
    def train(model: Any, x: Any, y: Any) -> None:
        keras.utils.set_random_seed(11)
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16).prefetch(2)
        model.fit(data, epochs=2, validation_data=data, shuffle=False, verbose=0)

    assert_like_joint(CASE, split_model(CASE), train)


def test_generator() -> None:
    x, y = CASE.data()

    def batches() -> Any:
        for _ in range(3):
            yield x, y

    model = split_model(CASE)
    model.fit(batches(), steps_per_epoch=3, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 3


@pytest.mark.parametrize("name", ["everything", "towers"])
def test_steps_per_execution(name: str) -> None:
    case = CASES[name]
    assert_like_joint(case, split_model(case, steps_per_execution=3), fit)


def test_run_eagerly() -> None:
    model = split_model(CASE, run_eagerly=True)
    assert_like_joint(CASE, model, fit)
    assert model.path == "first part: 5 of 5 variables fused; second part: 7 of 7 variables fused"


@pytest.mark.filterwarnings("ignore")
def test_functions_that_run_eagerly() -> None:
    model = split_model(CASE)
    tf.config.run_functions_eagerly(True)
    try:
        with pytest.raises(splitop.SplitError, match="run_functions_eagerly is on"):
            model.train_on_batch(*CASE.data())
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.mark.slow
def test_jit_compile() -> None:
    case = CASES["dense"]
    model = split_model(case, jit_compile=True)
    assert_like_joint(case, model, fit)
    assert model.plans is not None
    assert not model.plans.second.declined
    assert "4 of 4" in model.path


def test_jit_compile_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras chooses only where the fused ops run in its choice."""
    monkeypatch.delenv(xla.GPU_VARIABLE, raising=False)
    assert compiling.jit_choice("auto") is False
    monkeypatch.setenv(xla.GPU_VARIABLE, "1")
    assert compiling.jit_choice("auto") == "auto"
    assert split_model(CASE).jit_compile is bool(tf.config.get_visible_devices("GPU"))
    with pytest.raises(splitop.SplitError, match=r"\"auto\"\. Received: 'on'"):
        split_model(CASE, jit_compile="on")


def test_train_on_batch_in_a_loop() -> None:
    def train(model: Any, x: Any, y: Any) -> None:
        keras.utils.set_random_seed(11)
        for _ in range(4):
            model.train_on_batch(x, y)

    assert_like_joint(CASE, split_model(CASE), train)


def test_what_train_on_batch_returns() -> None:
    model = split_model(CASES["dense"], metrics=["mae"])
    x, y = CASES["dense"].data()
    loss, mae, norm = model.train_on_batch(x, y)
    logs = model.train_on_batch(x, y, return_dict=True)
    assert list(logs) == ["loss", "mae", "seed_norm"]
    assert loss > logs["loss"]
    assert mae > logs["mae"]
    assert norm > 0


def test_parts_that_are_not_built() -> None:
    """Their variables are made in the first batch."""
    x, y = CASES["dense"].data()
    states = []
    for built in (True, False):
        keras.utils.set_random_seed(3)
        inputs = ([keras.Input((9,))], [keras.Input((6,))]) if built else ([], [])
        second = keras.Sequential([*inputs[0], keras.layers.Dense(6, "relu", name="low")])
        first = keras.Sequential([*inputs[1], keras.layers.Dense(3, name="top")])
        model = SplitModel(second, first)
        model.compile(adam(), adam(), "mse", first_steps=1, second_steps=2)
        fit(model, x, y)
        states.append({str(at): value for at, value in enumerate(state(model).values())})
    assert_same_bits(*states)


def test_subclassed_parts() -> None:
    class Encoder(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(6, "relu")

        def call(self, x: Any) -> Any:  # without `training`
            return {"iv": self.dense(x), "x": x}

    class Head(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, iv: Any, training: bool = False) -> Any:
            assert training in (True, False)
            return self.dense(keras.ops.concatenate([iv["iv"], iv["x"]], axis=-1))

    model = SplitModel(Encoder(), Head())
    model.compile(adam(), adam(), "mse")
    losses = fit(model, *CASES["dense"].data(), epochs=8)["loss"]
    assert losses[-1] < losses[0]
    assert model.path == "first part: 2 of 2 variables fused; second part: 2 of 2 variables fused"


@pytest.mark.parametrize("size", [None, 16])
def test_layers_inside_of_a_part_without_a_training_argument(size: int | None) -> None:
    # As Keras has them learn it inside of a model in one piece.
    heard = []

    class Listens(keras.layers.Layer):
        def call(self, x: Any, training: bool | None = None) -> Any:
            heard.append(training)
            return x

    class Wraps(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.listens = keras.layers.Dense(3), Listens()

        def call(self, x: Any) -> Any:
            return self.listens(self.dense(x))

    x, y = CASES["dense"].data()
    model = SplitModel(Wraps(), Wraps())
    model(x)
    model.compile(adam(), adam(), "mse", micro_batch_size=size)
    heard.clear()
    model.train_on_batch(x, y)
    assert set(heard) == {True}


def test_losses_of_layers_alone() -> None:
    x, _ = CASES["dense"].data()
    inputs = keras.Input((9,))
    h = keras.layers.Dense(6, name="mid")(inputs)
    model = SplitModel.cut(keras.Model(inputs, AddsLoss()(h)), "mid")
    model.compile(adam(), adam())
    losses = fit(model, x, None, epochs=5)["loss"]
    assert losses[-1] < losses[0]


def test_says_which_path_trains(caplog: pytest.LogCaptureFixture) -> None:
    model = split_model(CASES["dense"])
    with caplog.at_level(logging.INFO, "splitop"):
        fit(model, *CASES["dense"].data())
    assert f"{model.name}: first part: 4 of 4 variables fused; second part: 4 of" in caplog.text
    assert "high/kernel" in str(model.plans)


def test_loss_of_the_users() -> None:
    """A compute_loss that weighs the parts' own losses otherwise."""

    class Weighed(SplitModel):
        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):  # type: ignore[no-untyped-def]
            return keras.ops.mean((y - y_pred) ** 2) + 3 * sum(self.losses)

    x, y = CASE.data()
    model = Weighed.cut(build(CASE), CASE.at)
    model.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1))
    joint = build(CASE)
    keras.utils.set_random_seed(2)
    with tf.GradientTape() as tape:
        y_pred = joint(x, training=True)
        loss = tf.reduce_mean((y - y_pred) ** 2) + 3 * tf.add_n(joint.losses)
    gradients = tape.gradient(loss, joint.trainable_variables)
    keras.optimizers.SGD(0.1).apply(gradients, joint.trainable_variables)
    keras.utils.set_random_seed(2)
    model.train_on_batch(x, y)
    for a, b in zip(model.weights, joint.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), 1e-4, 1e-6, err_msg=a.path)


def test_loss_of_the_users_that_goes_round_the_cut() -> None:
    class Round(SplitModel):
        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):  # type: ignore[no-untyped-def]
            return keras.ops.mean((y - y_pred) ** 2) + keras.ops.mean(self.second_part(x))

    model = Round.cut(build(CASES["dense"]), "mid")
    model.compile(adam(), adam())
    with pytest.raises(splitop.CutError, match='variable "low/kernel" of the second part also'):
        model.train_on_batch(rows(9), rows(3))
