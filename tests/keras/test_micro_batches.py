"""compile(micro_batch_size=): the step of the whole batch, in less memory."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import splitop
from splitop.keras import SplitModel
from tests.keras.models import (
    CASES,
    AddsLoss,
    Case,
    assert_like_joint,
    assert_same_bits,
    fit,
    layers,
    rows,
    split_model,
    state,
)

SIZE = 5  # of batches of 16, 16 and 5 rows


def losses() -> Any:
    """Losses of the weights, of the rows and of both, on both sides."""
    x = keras.Input((9,))
    h = layers.Dense(11, "relu", name="low", kernel_regularizer="l2")(x)
    h = AddsLoss(name="adds")(h)
    h = layers.Dense(6, "tanh", name="mid", activity_regularizer="l2")(h)
    h = AddsLoss(name="adds_2")(h)
    h = layers.Dense(3, name="top", kernel_regularizer="l1", activity_regularizer="l2")(h)
    return keras.Model(x, h)


LOSSES = Case(losses, "mid", lambda: (rows(9), rows(3)), (0, 0))
WITHOUT_STATISTICS = {name: case for name, case in CASES.items() if name != "everything"}


@pytest.mark.parametrize("name", WITHOUT_STATISTICS)
def test_as_in_one_piece(name: str) -> None:
    case = CASES[name]
    model = split_model(case, micro_batch_size=SIZE)
    assert_like_joint(case, model, fit)
    assert model.plans is not None
    plan = model.plans.second
    assert not plan.declined
    assert not plan.chains  # Only the update is fused.


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_losses_count_once(backend: str) -> None:
    # Pitfalls 16 and 18.
    assert_like_joint(LOSSES, split_model(LOSSES, micro_batch_size=SIZE, backend=backend), fit)


def test_losses_in_float64() -> None:
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        assert_like_joint(LOSSES, split_model(LOSSES, micro_batch_size=SIZE), fit)
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def test_dropout_and_statistics_are_of_the_micro_batches() -> None:
    """One micro-batch for the whole batch: the same masks and statistics as without."""
    whole, chunked = (split_model(CASES["everything"], micro_batch_size=n) for n in (None, 16))
    x, y = CASES["everything"].data()
    for model in (whole, chunked):
        fit(model, x[:16], y[:16])
    expected = state(whole)
    for name, value in state(chunked).items():
        np.testing.assert_allclose(value, expected[name], 1e-4, 1e-5, err_msg=name)


def test_frequencies() -> None:
    case = CASES["dense"]
    options = {"first_steps": 1, "second_steps": 2}
    assert_like = split_model(case, **options), split_model(case, micro_batch_size=SIZE, **options)
    for model in assert_like:
        fit(model, *case.data())
    expected = state(assert_like[0])
    for name, value in state(assert_like[1]).items():
        np.testing.assert_allclose(value, expected[name], 1e-4, 1e-5, err_msg=name)


def test_loss_scale() -> None:
    """Pitfall 17: it is undone once."""

    def make(size: int | None) -> SplitModel:
        model = SplitModel.cut(losses(), "mid")
        optimizers = [
            keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=scale)
            for scale in (4.0, 8.0)
        ]
        model.compile(*optimizers, loss="mse", micro_batch_size=size)
        return model

    keras.utils.set_random_seed(7)
    models = [make(None)]
    models.append(make(SIZE))
    models[1].set_weights(models[0].get_weights())
    x, y = LOSSES.data()
    for model in models:
        fit(model, x, y)
    pairs = zip(models[0].weights, models[1].weights, strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a.numpy(), b.numpy(), 1e-4, 1e-6, err_msg=a.path)


def test_a_frozen_second_part() -> None:
    model = SplitModel.cut(CASES["dense"].make(), "mid")
    model.second_part.trainable = False
    model.compile("sgd", loss="mse", micro_batch_size=SIZE)
    before = [weight.numpy() for weight in model.second_part.weights]
    history = fit(model, *CASES["dense"].data())["loss"]
    assert history[1] < history[0]
    for weight, value in zip(model.second_part.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras' own.
def test_is_saved(tmp_path: Any) -> None:
    model = split_model(CASES["dense"], micro_batch_size=SIZE)
    x, y = CASES["dense"].data()
    fit(model, x, y)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        fit(each, x, y)
    assert_same_bits(state(model), state(loaded))


def test_a_mask_that_would_get_lost() -> None:
    second = keras.Sequential(
        [keras.Input((4,), dtype="int32"), layers.Embedding(9, 5, mask_zero=True)]
    )
    first = keras.Sequential(
        [keras.Input((4, 5)), layers.GlobalAveragePooling1D(), layers.Dense(3)]
    )
    model = SplitModel(second, first)
    model.compile("sgd", "sgd", "mse", micro_batch_size=2)
    with pytest.raises(splitop.CutError, match=r"Keras mask.*SplitModel\.cut.*with a mask"):
        model.train_on_batch(np.array([[1, 2, 0, 0]] * 4), np.ones((4, 3)))


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "8"])
def test_sizes_that_are_none(size: Any) -> None:
    with pytest.raises(splitop.SplitError, match=r"micro_batch_size .*Received: "):
        split_model(CASES["dense"], micro_batch_size=size)
