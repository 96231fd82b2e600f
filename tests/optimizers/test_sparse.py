"""Which rows of a table the optimizers update from a tf.IndexedSlices, and how.

The facts that the adapters state, shown with the optimizers themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from splitop._src.optimizers import OptimizerAdapter, adapter_for
from splitop._src.optimizers.base import tf_variable
from tests import oracle
from tests.optimizers.emulation import check_close
from tests.optimizers.test_numerics import KERAS_OPTIMIZERS, TF1_OPTIMIZERS

SHAPE = (6, 2)
LOOKED_UP = [1, 4]
DISTINCT, REPEATED = [4, 1], [4, 1, 4, 4]  # ids


class Slices:
    """The slices of rows as Keras calculates with them: products by slice, sums by row."""

    __array_ufunc__ = None  # An array leaves all operations to this class.

    def __init__(self, values: np.ndarray, ids: Sequence[int]):
        self.values, self.ids = values, ids

    def dense(self) -> np.ndarray:
        """The sum of the slices of every row."""
        rows = np.zeros(SHAPE)
        np.add.at(rows, self.ids, self.values)
        return rows

    def _like_values(self, other: Any) -> Any:
        if isinstance(other, Slices):
            return other.values
        return other[self.ids] if np.shape(other) else other

    def __mul__(self, other: Any) -> Slices:
        return Slices(self.values * self._like_values(other), self.ids)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Slices:
        return Slices(self.values / self._like_values(other), self.ids)

    def __abs__(self) -> np.ndarray:
        return Slices(abs(self.values), self.ids).dense()

    def __add__(self, other: np.ndarray) -> np.ndarray:
        return self.dense() + other

    __radd__ = __add__

    def __sub__(self, other: np.ndarray) -> np.ndarray:
        return self.dense() - other

    def __rsub__(self, other: np.ndarray) -> np.ndarray:
        return other - self.dense()


def _slices(ids: Sequence[int]) -> Slices:
    return Slices(np.random.default_rng(2).normal(size=(len(ids), SHAPE[1])), ids)


class Table:
    """A table with an optimizer of its own and a random state, on which a step was taken."""

    def __init__(self, make: Callable[[float], Any], gradient: Slices, **options: Any):
        self.optimizer = make(0.1)
        for name, value in options.items():
            setattr(self.optimizer, name, value)
        random = np.random.default_rng(1)
        self.variable = tf.Variable(random.normal(size=SHAPE), name="table")
        self.adapter: OptimizerAdapter = adapter_for(self.optimizer)
        self.adapter.prepare([self.variable])
        self.rule: Any = self.adapter.rule()
        state = (self.variable, *self.adapter.slots(self.variable))
        slots = oracle.random_slots(self.rule.name, SHAPE, random)
        for variable, value in zip(state[1:], slots, strict=True):
            variable.assign(value)
        self.hyper = self.adapter.hyper(tf.float64).numpy()
        self.before = [v.numpy() for v in state]
        slices = tf.IndexedSlices(
            tf.constant(gradient.values), tf.constant(gradient.ids), tf.constant(SHAPE)
        )
        self.optimizer.apply_gradients([(slices, self.variable)])
        self.after = [v.numpy() for v in state]

    def changed_rows(self) -> list[int]:
        """The rows that are not what they were."""
        pairs = zip(self.before, self.after, strict=True)
        return sorted({int(row) for a, b in pairs for row in np.nonzero(a != b)[0]})

    def expected(self, gradient: Any) -> list[np.ndarray]:
        """The op's rule on all rows, or only on those looked up, as the adapter says."""
        decayed = self.adapter.decayed(self.variable)
        value, slots = oracle.update(
            self.before[0], self.before[1:], gradient, decayed, self.rule.name, self.hyper
        )
        if self.adapter.updates_all_rows(self.variable):
            return [value, *slots]
        expected = [old.copy() for old in self.before]
        for rows, new in zip(expected, (value, *slots), strict=True):
            rows[LOOKED_UP] = new[LOOKED_UP]
        return expected


OPTIMIZERS = {
    **{f"tf1 {name}": make for name, make in TF1_OPTIMIZERS.items()},
    **{f"keras {name}": make for name, make in KERAS_OPTIMIZERS.items()},
}
ALL = pytest.mark.parametrize("name", OPTIMIZERS)

# Where a row without a slice stays as it is.
LOOKED_UP_ROWS_ONLY = {
    *(f"tf1 {name}" for name in TF1_OPTIMIZERS if name != "adam"),
    *("keras sgd", "keras adagrad", "keras rowwise adagrad"),
}
# Keras squares each slice by itself; TF1 and splitop's own optimizer the sum of a row's.
SLICES_ADDED_UP = {
    *(f"tf1 {name}" for name in TF1_OPTIMIZERS),
    *(f"keras {name}" for name in ("sgd", "momentum", "nesterov", "lion", "rowwise adagrad")),
}


@ALL
def test_rows(name: str) -> None:
    table = Table(OPTIMIZERS[name], _slices(DISTINCT))
    assert table.adapter.updates_all_rows(table.variable) == (name not in LOOKED_UP_ROWS_ONLY)
    assert table.changed_rows() == (
        LOOKED_UP if name in LOOKED_UP_ROWS_ONLY else list(range(SHAPE[0]))
    )
    _check(table.after, table.expected(_slices(DISTINCT).dense()))


@pytest.mark.parametrize(
    "name", ["keras sgd", "keras adagrad", "keras lion", "keras rowwise adagrad"]
)
def test_weight_decay_is_for_all_rows(name: str) -> None:
    table = Table(OPTIMIZERS[name], _slices(DISTINCT), weight_decay=0.1)
    assert table.adapter.updates_all_rows(table.variable)
    assert table.changed_rows() == list(range(SHAPE[0]))
    _check(table.after, table.expected(_slices(DISTINCT).dense()))
    optimizer = OPTIMIZERS[name](0.1)
    optimizer.weight_decay = 0.1
    optimizer.exclude_from_weight_decay(var_names=["table"])
    assert adapter_for(optimizer).updates_all_rows(table.variable) == (name == "keras lion")


@ALL
def test_several_slices_of_a_row(name: str) -> None:
    slices = _slices(REPEATED)
    table = Table(OPTIMIZERS[name], slices)
    assert table.adapter.adds_up_slices() == (name in SLICES_ADDED_UP)
    if table.adapter.adds_up_slices():
        _check(table.after, table.expected(slices.dense()))
    else:
        _check(table.after, table.expected(slices))
        largest = max(
            np.max(abs(a - b))
            for a, b in zip(table.after, table.expected(slices.dense()), strict=True)
        )
        assert largest > 1e-3  # no matter of rounding


def test_a_keras_variable() -> None:
    table = keras.Variable(np.ones(SHAPE))
    optimizer = keras.optimizers.SGD(weight_decay=0.1)
    assert adapter_for(optimizer).updates_all_rows(table)
    optimizer.exclude_from_weight_decay(var_list=[tf_variable(table)])
    assert not adapter_for(optimizer).updates_all_rows(table)


def _check(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    for number, (got, want) in enumerate(zip(actual, expected, strict=True)):
        check_close(got, want, f"slot {number - 1}" if number else "value")
