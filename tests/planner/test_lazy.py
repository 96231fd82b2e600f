"""sparse="lazy": a step updates the rows that were looked up, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.planner.lookups import IDS, LOOKUPS, ROWS, WIDTH, table
from tests.planner.models import Weights
from tests.planner.steps import FLAVOURS, Steps, assert_same_values, run_steps
from tests.planner.test_tables import BATCHES, OPTIMIZERS
from tests.planner.training import seed_for

tf1 = tf.compat.v1

# Powers of two and their sums: float32, in which optimizers keep them, rounds none.
LR, DECAY, MOMENTUM, BETA1, BETA2, EPSILON = 2**-4, 2**-3, 0.75, 0.875, 0.9375, 2.0**-16


def one_id_each(w: Weights, ids: Any) -> Any:
    return tf.gather(table(w), ids)


Rows = tuple[np.ndarray, ...]  # of the table, and of its slots


def lazy_adam(t: int, rows: Rows, g: np.ndarray, squares: np.ndarray, decay: float = 0.0) -> Rows:
    """https://www.tensorflow.org/addons/api_docs/python/tfa/optimizers/LazyAdam."""
    value, m, v = rows
    value = value - LR * decay * value
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * squares
    step = LR * np.sqrt(1 - BETA2**t) / (1 - BETA1**t)
    return value - step * m / (np.sqrt(v) + EPSILON), m, v


def keras_adamw(t: int, rows: Rows, g: np.ndarray, squares: np.ndarray) -> Rows:
    return lazy_adam(t, rows, g, squares, DECAY)


def keras_momentum(t: int, rows: Rows, g: np.ndarray, squares: np.ndarray) -> Rows:
    m = MOMENTUM * rows[1] - LR * g
    return rows[0] + m, m


def tf1_momentum(t: int, rows: Rows, g: np.ndarray, squares: np.ndarray) -> Rows:
    m = MOMENTUM * rows[1] + g
    return rows[0] - LR * m, m


V1, KO = tf1.train, keras.optimizers

# Flavour, optimizer, its step on the rows looked up, and its number of slots.
CASES: list[tuple[str, Callable[[], Any], Callable[..., Rows], int]] = [
    ("tf1", lambda: V1.AdamOptimizer(LR, BETA1, BETA2, EPSILON), lazy_adam, 2),
    ("tf1", lambda: V1.MomentumOptimizer(LR, MOMENTUM), tf1_momentum, 1),
    ("keras", lambda: KO.Adam(LR, BETA1, BETA2, EPSILON), lazy_adam, 2),
    ("keras", lambda: KO.AdamW(LR, DECAY, BETA1, BETA2, EPSILON), keras_adamw, 2),
    ("keras", lambda: KO.SGD(LR, MOMENTUM), keras_momentum, 1),
]


def state_of(steps: Steps) -> list[np.ndarray]:
    """The table, then its slots."""
    return [value for _, value in steps.values if value.shape == (ROWS, WIDTH)]


@pytest.mark.parametrize(("flavour", "make", "update", "num_slots"), CASES)
def test_is_the_optimizers_step_on_the_rows_looked_up(
    flavour: str, make: Any, update: Any, num_slots: int
) -> None:
    steps = run_steps(flavour, one_id_each, make, BATCHES, backend="fused", sparse="lazy")
    assert [each.all_rows for each in steps.plan.tables] == [False]
    start = table(Weights()).numpy()
    state = [start, *(np.zeros_like(start) for _ in range(num_slots))]
    for t, ids in enumerate(BATCHES, 1):
        gradient = np.sin(np.arange(ids.size * WIDTH) + 1.0).reshape(ids.size, WIDTH)
        for row in set(ids.ravel()):
            slices = gradient[ids.ravel() == row]
            g = slices.sum(axis=0)
            squares = (slices**2).sum(axis=0) if flavour == "keras" else g**2
            after = update(t, tuple(each[row] for each in state), g, squares)
            for each, value in zip(state, after, strict=True):
                each[row] = value
    untouched = sorted(set(range(ROWS)) - set(np.ravel(BATCHES)))
    assert untouched
    for value, expected in zip(state_of(steps), state, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-11)
        np.testing.assert_array_equal(value[untouched], expected[untouched])


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_changes_nothing_where_the_optimizer_itself_is_lazy(name: str, flavour: str) -> None:
    lazy, exact, reference = (
        run_steps(flavour, LOOKUPS["deep"].build, OPTIMIZERS[flavour][name], BATCHES, **options)
        for options in (
            {"backend": "fused", "sparse": "lazy"},
            {"backend": "fused"},
            {"backend": "reference", "sparse": "lazy"},
        )
    )
    assert [each.all_rows for each in (*lazy.plan.tables, *exact.plan.tables)] == [False] * 2
    for (variable, value), (_, expected) in zip(lazy.values, exact.values, strict=True):
        np.testing.assert_array_equal(value, expected, err_msg=variable)
    assert_same_values(lazy, reference)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_changes_nothing_without_tables(flavour: str) -> None:
    def build(w: Weights, ids: Any) -> Any:
        return tf.matmul(tf.one_hot(ids[:, 0], ROWS, dtype=tf.float64), table(w))

    adam = OPTIMIZERS[flavour]["adam"]
    lazy, reference = (
        run_steps(flavour, build, adam, BATCHES, backend=backend, sparse="lazy")
        for backend in ("fused", "reference")
    )
    assert lazy.plan.tables == ()
    assert_same_values(lazy, reference)


@pytest.mark.usefixtures("graph")
class TestErrors:
    def plan(self, optimizer: Any, **options: Any) -> splitop.Plan:
        w = Weights()
        iv = one_id_each(w, tf.constant(IDS))
        return splitop.plan(optimizer, iv, w.variables, seed_for(iv), **options)

    def test_there_is_no_lazy_step_to_fall_back_on(self) -> None:
        message = r'sparse="lazy" was asked for, but the table "table:0" can\'t be fused, and the '
        message += r'reference path updates all rows\. Received: backend="reference"\.'
        with pytest.raises(splitop.NotFusableError, match=message):
            self.plan(V1.AdamOptimizer(), backend="reference", sparse="lazy")

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (KO.Adamax, r"Received: .*looked up twice one by one: the rule adamax"),
            (
                lambda: KO.Adam(gradient_accumulation_steps=2),
                r"Received: gradient_accumulation_steps=2",
            ),
        ],
    )
    def test_a_table_that_is_declined(self, make: Any, words: str) -> None:
        with pytest.raises(splitop.NotFusableError, match=words):
            self.plan(make(), sparse="lazy")

    def test_an_unknown_value(self) -> None:
        message = r'sparse must be one of "exact", "lazy"\. Received: \'rows\''
        with pytest.raises(splitop.SplitError, match=message):
            self.plan(V1.AdamOptimizer(), sparse="rows")


def test_in_two_runs() -> None:
    """split_minimize hands it to both parts."""
    with tf.Graph().as_default(), tf1.Session() as session:
        ids = tf1.placeholder(tf.int32, [None])
        with tf1.variable_scope("second_part"):
            iv = tf.gather(tf1.get_variable("table", [ROWS, WIDTH]), ids)
        with tf1.variable_scope("first_part"):
            loss = tf.reduce_sum(tf.matmul(iv, tf1.get_variable("k", [WIDTH, 1])) ** 2)
        ops = splitop.split_minimize(
            loss,
            iv,
            first_optimizer=V1.AdamOptimizer(),
            second_optimizer=V1.AdamOptimizer(),
            sparse="lazy",
        )
        assert [each.all_rows for each in ops.second_plan.tables] == [False]
        session.run(tf1.global_variables_initializer())
        variable = tf1.trainable_variables("second_part")[0]
        start = session.run(variable)
        session.run(ops.train_both, {ids: [1, 3, 3]})
        session.run(ops.train_both, {ids: [5, 3, 3]})
        changed = (session.run(variable) != start).any(axis=1)
        assert np.flatnonzero(changed).tolist() == [1, 3, 5]
