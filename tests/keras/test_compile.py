"""What `compile` takes, and frozen parts."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

import splitop
from splitop.keras import SplitModel
from tests.keras.models import CASES, adam, assert_like_joint, build, fit, split_model, state

CASE = CASES["everything"]


def cut() -> SplitModel:
    return SplitModel.cut(build(CASE), CASE.at)


def test_names_of_optimizers() -> None:
    model = cut()
    model.compile("sgd", "adam", "mse")
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert isinstance(model.second_optimizer, keras.optimizers.Adam)
    assert model.first_optimizer is model.optimizer
    fit(model, *CASE.data())


def test_one_optimizer_for_both_parts() -> None:
    optimizer = adam()
    with pytest.raises(
        splitop.SplitError, match=r"must be two objects.*twice.*Received: .*Adam.* for both"
    ):
        cut().compile(optimizer, optimizer, "mse")


def test_keras_own_argument() -> None:
    with pytest.raises(splitop.SplitError, match=r"two optimizers.*Received: optimizer='adam'"):
        cut().compile(optimizer="adam", loss="mse")


@pytest.mark.parametrize("which", ["first", "second"])
def test_missing_optimizer(which: str) -> None:
    given = {"first_optimizer": adam(), "second_optimizer": adam(), f"{which}_optimizer": None}
    with pytest.raises(splitop.SplitError, match=f"{which}_optimizer is missing"):
        cut().compile(**given, loss="mse")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"first_optimizer": "adamm"}, "first_optimizer must be .* Received: 'adamm'"),
        ({"second_optimizer": 3}, "second_optimizer must be .* Received: 3"),
        ({"backend": "fast"}, "backend must be one of .* Received: 'fast'"),
        ({"sparse": "some"}, "sparse must be one of .* Received: 'some'"),
    ],
)
def test_unfit_arguments(argument: dict[str, Any], message: str) -> None:
    with pytest.raises(splitop.SplitError, match=message):
        cut().compile(**{"first_optimizer": adam(), "second_optimizer": adam(), **argument})


def test_not_compiled() -> None:
    model = cut()
    with pytest.raises(ValueError, match="compile"):
        model.fit(*CASE.data())
    with pytest.raises(splitop.SplitError, match="not compiled"):
        model.seed_on_batch(*CASE.data())
    assert model.plans is None
    assert model.path == "first part: not trained; second part: not trained"


def test_only_to_evaluate() -> None:
    model = cut()
    model.compile(loss="mse")
    x, y = CASE.data()
    assert model.evaluate(x, y, verbose=0) > 0
    with pytest.raises(splitop.SplitError, match="the first part has trainable variables, but no"):
        model.fit(x, y, verbose=0)


def test_fused_or_an_error() -> None:
    model = split_model(CASES["dense"], backend="fused")
    fit(model, *CASES["dense"].data())
    assert model.path == "first part: 4 of 4 variables fused; second part: 4 of 4 variables fused"
    model.compile(adam(), keras.optimizers.Lamb(), "mse", backend="fused")
    before = state(model)
    with pytest.raises(splitop.NotFusableError, match="Lamb"):
        model.train_on_batch(*CASES["dense"].data())
    for name, value in state(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_the_backend_of_a_with_block() -> None:
    model = split_model(CASES["dense"])
    with splitop.backend("reference"):
        fit(model, *CASES["dense"].data())
    assert "0 of 4" in model.path


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_frozen_part_needs_no_optimizer(which: str) -> None:
    def make() -> Any:
        model = CASE.make()
        split = SplitModel.cut(model, CASE.at)
        getattr(split, f"{which}_part").trainable = False
        return model

    case = dataclasses.replace(CASE, make=make)
    model = SplitModel.cut(build(case), case.at)
    given = {"first_optimizer": adam(), "second_optimizer": adam(), f"{which}_optimizer": None}
    model.compile(**given, loss="mse")
    assert model.optimizer is not None
    frozen = {w.path: w.numpy() for w in getattr(model, f"{which}_part").weights}
    trainable = [w.path for w in getattr(model, f"{which}_part").weights if "seed" not in w.path]
    assert_like_joint(case, model, fit)
    for path in trainable:
        np.testing.assert_array_equal(state(model)[path], frozen[path], err_msg=path)


def test_both_parts_frozen() -> None:
    model = cut()
    model.trainable = False
    model.compile(adam(), adam(), "mse")
    with pytest.raises(splitop.SplitError, match="nothing to train"):
        model.train_on_batch(*CASE.data())


def test_unfrozen_later() -> None:
    model = cut()
    model.second_part.trainable = False
    model.compile(adam(), None, "mse")
    x, y = CASE.data()
    fit(model, x, y)
    before = state(model)["low/kernel"]
    model.second_part.trainable = True
    model.compile(adam(), adam(), "mse")
    fit(model, x, y)
    assert np.all(state(model)["low/kernel"] != before)


def test_skip_nonfinite() -> None:
    model = split_model(CASES["dense"], skip_nonfinite=True)
    x, y = CASES["dense"].data()
    model.train_on_batch(x, y)
    before = state(model)
    model.train_on_batch(x, np.full_like(y, np.inf))
    for name, value in state(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_sparse_lazy() -> None:
    case = CASES["masked"]
    model = split_model(case, sparse="lazy")
    x, y = case.data()
    fit(model, x, y)
    before = state(model)["table/embeddings"]
    fit(model, np.where(x > 5, x, 5), y)
    after = state(model)["table/embeddings"]
    np.testing.assert_array_equal(after[:5], before[:5])
    assert np.all(after[6:] != before[6:])


def test_average_weights_at_the_end_of_fit() -> None:
    """Each part gets the averages that its own optimizer has kept."""
    case = CASES["dense"]

    def optimizer() -> Any:
        return keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.5)

    assert_like_joint(case, split_model(case, optimizer), fit, optimizer)
