"""Keras models to cut, and their training in one piece, which is what a SplitModel must equal."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from splitop.keras import SplitModel
from tests.accuracy import assert_as_close_as_orders, rounded_otherwise

layers = keras.layers

ROWS = 37
State = dict[str, np.ndarray]


@keras.saving.register_keras_serializable(package="splitop_tests")
class AddsLoss(layers.Layer):
    """Passes its input on, and adds a loss that depends on it and on a weight."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x: Any) -> Any:
        self.add_loss(0.1 * keras.ops.mean(keras.ops.square(x * self.factor)))
        return x * self.factor


class MeanOfInput(layers.Layer):
    """Passes its input on, and keeps a metric of it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mean = keras.metrics.Mean(name="mean_of_input")

    def call(self, x: Any) -> Any:
        self.mean.update_state(x)
        return x


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A model, where to cut it, and how it is compiled.

    Attributes:
        make: Builds the model.
        at: The layers behind which it is cut.
        data: x and y of some rows.
        fused: How many variables of the first and of the second part are fused.
        compiled: Arguments of `compile` besides the optimizers.
    """

    make: Callable[[], Any]
    at: str | list[str]
    data: Callable[[], tuple[Any, Any]]
    fused: tuple[int, int]
    compiled: dict[str, Any] = dataclasses.field(default_factory=lambda: {"loss": "mse"})


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=(ROWS, *shape)).astype(np.float32)


def ids(count: int, length: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, count, (ROWS, length)).astype(np.int32)


def dense() -> Any:
    x = keras.Input((9,))
    h = layers.Dense(11, "relu", name="low")(x)
    h = layers.Dense(6, "tanh", name="mid")(h)
    h = layers.Dense(7, "gelu", name="high")(h)
    return keras.Model(x, layers.Dense(3, name="top")(h))


def sequential() -> Any:
    return keras.Sequential(
        [
            keras.Input((9,)),
            layers.Dense(11, "relu", name="low"),
            layers.Dense(6, name="mid"),
            layers.Dense(3, name="top"),
        ],
        name="stack",
    )


def everything() -> Any:
    """Random masks, moving statistics, and losses of every kind on both sides."""
    x = keras.Input((9,))
    h = layers.Dense(11, "relu", name="low", kernel_regularizer="l2")(x)
    h = layers.BatchNormalization(name="norm")(h)
    h = AddsLoss(name="adds")(h)
    h = layers.Dropout(0.3, name="drop")(h)
    h = layers.Dense(6, "tanh", name="mid", activity_regularizer="l2")(h)
    h = layers.Dropout(0.2, name="drop_2")(h)
    h = AddsLoss(name="adds_2")(h)
    h = layers.BatchNormalization(name="norm_2")(h)
    h = layers.Dense(3, name="top", kernel_regularizer="l1", activity_regularizer="l2")(h)
    return keras.Model(x, h)


def skip() -> Any:
    x = keras.Input((9,))
    low = layers.Dense(6, "relu", name="low")(x)
    mid = layers.Dense(6, "tanh", name="mid")(low)
    return keras.Model(x, layers.Dense(3, name="top")(layers.Add(name="add")([low, mid])))


def towers() -> Any:
    a, b = keras.Input((9,), name="a"), keras.Input((5,), name="b")
    left = layers.Dense(6, "relu", name="left")(a)
    right = layers.Dense(4, "relu", name="right")(b)
    h = layers.Concatenate(name="join")([left, right])
    out = layers.Dense(3, name="out")(h)
    side = layers.Dense(1, "sigmoid", name="side")(right)
    return keras.Model({"a": a, "b": b}, {"out": out, "side": side})


def wide() -> Any:
    """The first part takes an input of the model, too."""
    a, b = keras.Input((9,), name="a"), keras.Input((5,), name="b")
    h = layers.Dense(6, "relu", name="deep")(a)
    return keras.Model([a, b], layers.Dense(3, name="top")(layers.Concatenate()([h, b])))


def siamese() -> Any:
    a, b = keras.Input((9,), name="a"), keras.Input((9,), name="b")
    encoder = layers.Dense(6, "relu", name="encoder")
    h = layers.Subtract()([encoder(a), encoder(b)])
    return keras.Model([a, b], layers.Dense(3, name="top")(h))


def masked() -> Any:
    """A mask crosses the cut."""
    x = keras.Input((7,), dtype="int32")
    h = layers.Embedding(12, 5, mask_zero=True, name="table")(x)
    return keras.Model(x, layers.Dense(3, name="top")(layers.LSTM(4, name="lstm")(h)))


def conv() -> Any:
    x = keras.Input((6, 6, 2))
    h = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    return keras.Model(x, layers.Dense(3, name="top")(layers.Flatten()(h)))


def losses_of_towers() -> dict[str, Any]:
    return {
        "loss": {"out": "mse", "side": "binary_crossentropy"},
        "loss_weights": {"out": 1.0, "side": 0.3},
    }


CASES = {
    "dense": Case(dense, "mid", lambda: (rows(9), rows(3)), (4, 4)),
    "sequential": Case(sequential, "mid", lambda: (rows(9), rows(3)), (2, 4)),
    "everything": Case(everything, "mid", lambda: (rows(9), rows(3)), (5, 7)),
    "skip": Case(skip, ["low", "mid"], lambda: (rows(9), rows(3)), (2, 4)),
    "towers": Case(
        towers,
        ["left", "right"],
        lambda: (
            {"a": rows(9), "b": rows(5)},
            {"out": rows(3), "side": (rows(1) > 0).astype(np.float32)},
        ),
        (4, 4),
        losses_of_towers(),
    ),
    "wide": Case(wide, ["deep", "b"], lambda: ([rows(9), rows(5)], rows(3)), (2, 2)),
    "siamese": Case(siamese, "encoder", lambda: ([rows(9), rows(9)[::-1]], rows(3)), (2, 2)),
    "masked": Case(masked, "table", lambda: (ids(12, 7), rows(3)), (5, 1)),
    "conv": Case(conv, "conv", lambda: (rows(6, 6, 2), rows(3)), (2, 2)),
}


def adam() -> Any:
    return keras.optimizers.Adam(0.01)


def momentum() -> Any:
    return keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)


def build(case: Case) -> Any:
    keras.utils.set_random_seed(7)
    return case.make()


def split_model(case: Case, optimizer: Callable[[], Any] = adam, **options: Any) -> SplitModel:
    model = SplitModel.cut(build(case), case.at)
    model.compile(optimizer(), optimizer(), **{**case.compiled, **options})
    return model


def joint_model(case: Case, optimizer: Callable[[], Any] = adam, **options: Any) -> Any:
    model = build(case)
    model.compile(optimizer(), **{**case.compiled, **options})
    return model


def fit(model: Any, x: Any, y: Any, **options: Any) -> dict[str, list[float]]:
    """Two epochs of three batches, of which the last one is smaller."""
    keras.utils.set_random_seed(11)
    options = {"batch_size": 16, "epochs": 2, "shuffle": False, "verbose": 0, **options}
    return model.fit(x, y, **options).history


def state(model: Any) -> State:
    """All weights, and all that the optimizers keep, by names that both models have."""
    optimizers = [model.optimizer, getattr(model, "second_optimizer", None)]
    kept = {weight.path: weight.numpy() for weight in model.weights}
    for optimizer in optimizers:
        if optimizer is not None:
            # Without the optimizer's own name, which Keras numbers.
            kept |= {v.path.split("/")[-1]: v.numpy() for v in optimizer.variables}
    return kept


def assert_like_joint(
    case: Case,
    model: SplitModel,
    train: Callable[[Any, Any, Any], Any],
    optimizer: Callable[[], Any] = adam,
    **options: Any,
) -> None:
    """Trains a SplitModel and the model in one piece, and compares all that they keep.

    How far apart they may be, the model in one piece says itself, on inputs that are rounded
    otherwise.
    """
    dtype = keras.config.dtype_policy().compute_dtype
    start, runs = _joint_runs(case, train, optimizer, tuple(options.items()), dtype)
    train(model, *case.data())
    after = state(model)
    plain = {name: value for name, value in runs[0].items() if name in after}
    assert after.keys() == plain.keys()
    zeros = {name: start.get(name, np.zeros_like(value)) for name, value in plain.items()}
    assert_as_close_as_orders(after, plain, runs[1:], zeros)
    moved = [name for name, value in plain.items() if np.any(value != zeros[name])]
    assert len(moved) > len(plain) / 2


@functools.cache
def _joint_runs(
    case: Case, train: Callable[..., Any], optimizer: Callable[[], Any], options: Any, dtype: str
) -> tuple[State, list[State]]:
    """What the model in one piece starts from, and what it ends with, first on the data itself."""
    x, y = case.data()
    runs = []
    for number in range(3):
        joint = joint_model(case, optimizer, **dict(options))
        start = state(joint)
        train(joint, _rounded(x, dtype, np.random.default_rng(number)) if number else x, y)
        runs.append(state(joint))
    return start, runs


def _rounded(x: Any, dtype: str, random: np.random.Generator) -> Any:
    """Floats that are off by an ulp of the dtype that the model computes in, at most."""

    def one(value: np.ndarray) -> np.ndarray:
        if value.dtype.kind != "f":
            return value
        return rounded_otherwise(value.astype(np.dtype(dtype)), random).astype(value.dtype)

    return tf.nest.map_structure(one, x)


def assert_same_bits(a: State, b: State) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)
