"""Mixed precision; loss scales of two optimizers on one loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

from splitop.keras import SplitModel
from tests.keras.models import CASES, adam, assert_like_joint, build, fit, split_model, state

CASE = CASES["dense"]
LossScale = keras.optimizers.LossScaleOptimizer


@pytest.fixture(autouse=True)
def policy(request: Any) -> Iterator[None]:
    keras.mixed_precision.set_dtype_policy(getattr(request, "param", "mixed_float16"))
    yield
    keras.mixed_precision.set_dtype_policy("float32")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"], indirect=True)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_like_joint(backend: str) -> None:
    model = split_model(CASE, backend=backend)
    assert model.second_part.output.dtype in ("bfloat16", "float16")
    assert_like_joint(CASE, model, fit)


def test_each_part_gets_a_loss_scale() -> None:
    model = split_model(CASE)
    assert isinstance(model.optimizer, LossScale)
    assert isinstance(model.second_optimizer, LossScale)
    model.compile(adam(), adam(), "mse", auto_scale_loss=False)
    assert not isinstance(model.second_optimizer, LossScale)


def sgd() -> Any:
    return keras.optimizers.SGD(0.125)


def static() -> Any:
    return keras.optimizers.SGD(0.125, loss_scale_factor=512.0)


def dynamic(scale: float) -> Callable[[], Any]:
    return lambda: LossScale(sgd(), initial_scale=scale)


@pytest.mark.parametrize("first", [sgd, static, dynamic(2.0**8), dynamic(2.0**11)])
@pytest.mark.parametrize("second", [sgd, static, dynamic(2.0**9)])
def test_each_scale_is_undone_once(first: Any, second: Any) -> None:
    """A scale that is lost, or undone twice, moves the weights by a factor of hundreds."""
    x, y = CASE.data()
    states = []
    for optimizers in ((sgd(), sgd()), (first(), second())):
        model = SplitModel.cut(build(CASE), CASE.at)
        model.compile(*optimizers, "mse", auto_scale_loss=False)
        norm = fit(model, x, y)["seed_norm"]
        states.append({w.path: w.numpy() for w in model.weights} | {"norm": np.array(norm)})
    for name, value in states[0].items():
        np.testing.assert_allclose(states[1][name], value, 0.02, 0.002, err_msg=name)


def test_an_overflow_leaves_the_step_out_and_halves_the_scales() -> None:
    model = SplitModel.cut(build(CASE), CASE.at)
    model.compile(dynamic(2.0**30)(), dynamic(2.0**30)(), "mse")
    x, y = CASE.data()
    before = [w.numpy() for w in model.weights]
    logs = model.train_on_batch(x, y, return_dict=True)
    assert all(np.array_equal(w.numpy(), b) for w, b in zip(model.weights, before, strict=True))
    assert logs["seed_norm"] == 0  # of no step that counts
    optimizers = (model.optimizer, model.second_optimizer)
    assert [float(o.dynamic_scale.numpy()) for o in optimizers] == [2.0**29] * 2
    assert [int(o.iterations.numpy()) for o in optimizers] == [0, 0]
    fit(model, x, y, epochs=10)
    assert all(int(o.iterations.numpy()) > 0 for o in optimizers)


def test_a_seed_that_overflows_alone_lowers_the_first_scale() -> None:
    """Or the second part would never train again."""
    x, y = CASE.data()
    model = SplitModel.cut(build(CASE), CASE.at)
    # Large weights above IV: dL/dIV is much larger than the gradients of the first part.
    kernel = model.first_part.get_layer("high").kernel
    kernel.assign(kernel * 3e4)
    top = model.first_part.get_layer("top").kernel
    top.assign(top * 1e-2)
    model.compile(dynamic(2.0**14)(), dynamic(2.0**14)(), "mse")
    scales = []
    for _ in range(12):
        model.train_on_batch(x * 1e-4, y)
        scales.append(float(model.optimizer.dynamic_scale.numpy()))
    assert scales[0] < 2.0**14
    assert int(model.second_optimizer.iterations.numpy()) > 0


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras' own
def test_save_and_go_on(tmp_path: Any) -> None:
    x, y = CASE.data()
    model = split_model(CASE)
    fit(model, x, y)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for each in (model, loaded):
        each.train_on_batch(x, y)
    kept, expected = state(loaded), state(model)
    assert kept.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(kept[name], value, err_msg=name)


def test_stored_seeds_are_not_scaled() -> None:
    x, y = CASE.data()
    model = split_model(CASE)
    seed = model.seed_on_batch(x, y)
    assert seed.dtype == np.float32
    norm = model.train_on_batch(x, y, return_dict=True)["seed_norm"]
    np.testing.assert_allclose(np.linalg.norm(seed), norm, 1e-3)
