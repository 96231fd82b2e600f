"""A SplitModel trains as the model in one piece does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from splitop.keras import SplitModel
from tests.keras.models import (
    CASES,
    ROWS,
    MeanOfInput,
    adam,
    assert_like_joint,
    fit,
    joint_model,
    momentum,
    split_model,
    state,
)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_fit(name: str, backend: str) -> None:
    case = CASES[name]
    model = split_model(case, backend=backend)
    assert_like_joint(case, model, fit)
    assert model.plans is not None
    fused = tuple(len(plan.fused) for plan in (model.plans.first, model.plans.second))
    assert fused == (case.fused if backend == "auto" else (0, 0))


@pytest.mark.parametrize("name", ["dense", "everything"])
def test_fit_with_momentum(name: str) -> None:
    assert_like_joint(CASES[name], split_model(CASES[name], momentum), fit, momentum)


@pytest.mark.parametrize("weights", ["sample_weight", "class_weight"])
def test_weights_of_rows(weights: str) -> None:
    case = CASES["dense"]
    given: dict[str, Any] = {
        "sample_weight": np.linspace(0, 3, ROWS),
        "class_weight": {0: 0.5, 1: 2.0, 2: 1.0},
    }
    labels = np.arange(ROWS) % 3
    options = {"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}

    def train(model: Any, x: Any, y: Any) -> None:
        fit(model, x, labels, **{weights: given[weights]})

    assert_like_joint(case, split_model(case, **options), train, **options)


def test_logs_of_the_epochs() -> None:
    case = CASES["everything"]
    x, y = case.data()
    options = {"metrics": ["mae"], "weighted_metrics": ["mape"]}
    joint, split = joint_model(case, **options), split_model(case, **options)
    data = {"validation_data": (x[:9], y[:9])}
    expected, received = fit(joint, x, y, **data), fit(split, x, y, **data)
    norms = received.pop("seed_norm")
    assert list(received) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(received[name], values, 1e-5, err_msg=name)
    assert len(norms) == 2
    assert all(norm > 0 for norm in norms)


def test_metrics_of_layers() -> None:
    def make() -> Any:
        x = keras.Input((9,))
        h = keras.layers.Dense(6, name="mid")(MeanOfInput()(x))
        return keras.Model(x, keras.layers.Dense(3)(h))

    case = CASES["dense"]
    x, y = case.data()
    histories = []
    for model in (keras.models.Model, None):
        keras.utils.set_random_seed(7)
        built = make()
        if model is None:
            built = SplitModel.cut(built, "mid")
            built.compile(adam(), adam(), "mse")
        else:
            built.compile(adam(), "mse")
        histories.append(fit(built, x, y))
    expected, received = histories
    np.testing.assert_allclose(received["mean_of_input"], expected["mean_of_input"], 1e-6)


def test_seed_norm_is_the_norm_of_the_gradient_of_iv() -> None:
    case = CASES["towers"]
    x, y = case.data()
    split = split_model(case)
    with tf.GradientTape() as tape:
        iv = split.second_part(x)
        tape.watch(iv)
        out = split.first_part(iv)
        loss = tf.reduce_mean(tf.square(out["out"] - y["out"]))
        loss += 0.3 * tf.reduce_mean(keras.losses.binary_crossentropy(y["side"], out["side"]))
    expected = tf.linalg.global_norm(tape.gradient(loss, iv))
    logs = split.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["seed_norm"], expected, 1e-5)


def test_seed_norm_is_that_of_iv_alone() -> None:
    """The second part's own losses have a seed, too: one."""
    case = CASES["everything"]
    x, y = case.data()
    model = split_model(case)
    seed = model.seed_on_batch(x, y)
    logs = model.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["seed_norm"], np.linalg.norm(seed), 1e-5)


def test_evaluate_and_predict() -> None:
    case = CASES["everything"]
    x, y = case.data()
    joint, split = joint_model(case), split_model(case)
    np.testing.assert_array_equal(split.predict(x, verbose=0), joint.predict(x, verbose=0))
    assert split.evaluate(x, y, verbose=0) == pytest.approx(joint.evaluate(x, y, verbose=0), 1e-6)
    assert split.test_on_batch(x, y) == pytest.approx(joint.test_on_batch(x, y), 1e-6)
    assert len(split.get_weights()) == len(joint.get_weights())


def test_the_seed_is_from_before_the_first_part_moves() -> None:
    """With a learning rate that throws the first part far away, the second part must not see it."""
    case = CASES["dense"]
    x, y = case.data()
    after = []
    for rate in (0.0, 100.0):
        model = split_model(case)
        model.compile(keras.optimizers.SGD(rate), adam(), "mse")
        model.train_on_batch(x, y)
        after.append({n: v for n, v in state(model).items() if n.startswith(("low", "mid"))})
    for name, value in after[0].items():
        np.testing.assert_array_equal(value, after[1][name], err_msg=name)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)),
        lambda: keras.optimizers.AdamW(0.01, clipvalue=0.02),
        lambda: keras.optimizers.RMSprop(0.01),
    ],
)
def test_optimizers(optimizer: Callable[[], Any]) -> None:
    case = CASES["dense"]
    assert_like_joint(case, split_model(case, optimizer), fit, optimizer)
