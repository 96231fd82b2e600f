"""Fits SplitModels on replicas, in a process whose TensorFlow has two CPUs."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

import splitop.keras
from splitop._src.split_model import on_replicas
from tests.distribute import replicas

layers = keras.layers
BATCHES, ROWS = 3, 8


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What `fit` has left.

    Attributes:
        weights: All weights of the model and its optimizers.
        history: The logs of the epochs.
        path: Which path trained the parts.
        loss: That of `evaluate`.
    """

    weights: list[np.ndarray]
    history: dict[str, list[float]]
    path: str
    loss: float


def _dense() -> tuple[Any, Any, np.ndarray]:
    second = keras.Sequential(
        [
            keras.Input((7,)),
            layers.Dense(40, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01)),
            layers.Dense(40, activation="tanh"),
        ]
    )
    first = keras.Sequential([keras.Input((40,)), layers.Dense(6, "relu"), layers.Dense(1)])
    return second, first, np.random.default_rng(1).normal(size=(BATCHES * ROWS, 7))


def _embeddings() -> tuple[Any, Any, np.ndarray]:
    second = keras.Sequential([keras.Input((3,), dtype="int32"), layers.Embedding(11, 4)])
    first = keras.Sequential([keras.Input((3, 4)), layers.Flatten(), layers.Dense(1)])
    return second, first, np.random.default_rng(1).integers(0, 11, size=(BATCHES * ROWS, 3))


MODELS = {"dense": _dense, "embeddings": _embeddings}


def fit(
    name: str,
    backend: str,
    count: int = 2,
    clipping: dict[str, float] | None = None,
    first: Any = None,
    **options: Any,
) -> Fitted:
    """Fits one of MODELS from a fixed start, on the same joined batches whatever the count.

    Args:
        name: Its name.
        backend: That of `compile`.
        count: How many replicas there are.
        clipping: What both optimizers clip by.
        first: The first part's optimizer, if not Adam: a function that makes it.
        **options: Those of `compile`.
    """
    with replicas.strategy_of(count).scope():
        keras.utils.set_random_seed(0)
        keras.config.set_floatx("float64")
        second_part, first_part, x = MODELS[name]()
        model = splitop.keras.SplitModel(second_part, first_part)
        clipping = clipping or {}
        model.compile(
            first() if first is not None else keras.optimizers.Adam(0.01, **clipping),
            keras.optimizers.SGD(0.05, momentum=0.9, **clipping),
            "mse",
            metrics=["mae"],
            backend=backend,
            **options,
        )
    y = np.random.default_rng(2).normal(size=(len(x), 1))
    history = model.fit(x, y, batch_size=ROWS, epochs=2, shuffle=False, verbose=0).history
    loss = model.evaluate(x, y, batch_size=ROWS, verbose=0)[0]
    states = [*model.variables, *model.second_optimizer.variables]
    return Fitted([np.array(v) for v in states], history, model.path, loss)


def fit_with_loss_scale() -> Fitted:
    """With what has no meaning on several replicas."""
    inner = keras.optimizers.SGD
    return fit("dense", "auto", first=lambda: keras.optimizers.LossScaleOptimizer(inner()))


def seeds_of_several() -> None:
    """Asks for what is done on one replica."""
    with replicas.strategy_of(2).scope():
        second_part, first_part, x = MODELS["dense"]()
        model = splitop.keras.SplitModel(second_part, first_part)
        model.compile("sgd", "sgd", "mse")
    model.seed_on_batch(x, x[:, :1])


def made_where_no_order_is_kept() -> None:
    """As under MultiWorkerMirroredStrategy of several workers, or on several GPUs."""
    with pytest.MonkeyPatch.context() as patch, replicas.strategy_of(2).scope():
        patch.setattr(on_replicas, "wait_for_each_other", lambda: False)
        second_part, first_part, _ = MODELS["dense"]()
        splitop.keras.SplitModel(second_part, first_part).compile("sgd", "sgd", "mse")


def assert_equal(actual: Fitted, expected: Fitted) -> None:
    """Checks weights, logs and the loss of `evaluate`."""
    for value, other in zip(actual.weights, expected.weights, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-9, atol=1e-11)
    assert actual.history.keys() == expected.history.keys()
    for name, values in actual.history.items():
        # The norm of the seed is float32.
        rtol = 1e-5 if name == "seed_norm" else 1e-9
        np.testing.assert_allclose(values, expected.history[name], rtol=rtol, err_msg=name)
    np.testing.assert_allclose(actual.loss, expected.loss, rtol=1e-9)
