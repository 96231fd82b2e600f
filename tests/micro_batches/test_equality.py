"""Training in micro-batches is training on the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from splitop.keras import RowwiseAdagrad
from tests.accuracy import FEW, assert_accurate, rounded_otherwise
from tests.micro_batches.models import BATCH, BY_CHUNK, CASES, Case, contrastive
from tests.micro_batches.training import (
    MICRO,
    PLAIN,
    State,
    Trainer,
    assert_same,
    assert_trained,
    run,
)

STEPS = 4


def batches(case: Case, rows: int = BATCH, steps: int = STEPS) -> list[Any]:
    random = np.random.default_rng(1)
    return [case.inputs(random, rows) for _ in range(steps)]


@pytest.mark.parametrize("size", [1, 4, 11, 100])
@pytest.mark.parametrize("name", CASES)
def test_the_whole_batch(name: str, size: int) -> None:
    case = CASES[name]
    micro, plain = (Trainer(case, path, size=size) for path in (MICRO, PLAIN))
    start = micro.state()
    result = run(micro, batches(case))
    assert_same(result, run(plain, batches(case)))
    assert_trained(start, result[0])
    assert not micro.plan.declined
    assert len(micro.plan.tables) == case.tables
    assert len(micro.plan.updated) == len(micro.model.trainable_variables) - case.tables
    assert not micro.plan.chains


@pytest.mark.parametrize("name", BY_CHUNK)
def test_the_same_chunks(name: str) -> None:
    """Dropout draws a mask for each chunk, BatchNormalization moves its statistics with each."""
    case = BY_CHUNK[name]
    micro, plain = (Trainer(case, path, by_chunk=True) for path in (MICRO, PLAIN))
    start = micro.state()
    result = run(micro, batches(case))
    assert_same(result, run(plain, batches(case)))
    assert_trained(start, result[0])


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", ["mlp", "embeddings", "conv", "several", "dropout"])
def test_the_accuracy_rule(name: str, policy: str) -> None:
    """Every step from the same state, against float64 and what other orders make of it."""
    case = (CASES | BY_CHUNK)[name]
    masked = name in BY_CHUNK
    micro, plain, exact, chunks = (
        Trainer(case, path, dtypes, by_chunk=by_chunk)
        for path, dtypes, by_chunk in (
            (MICRO, policy, False),
            (PLAIN, policy, masked),
            (PLAIN, "float64", masked),
            (PLAIN, policy, True),
        )
    )
    random = np.random.default_rng(2)
    given = batches(case)
    run(micro, given[:2])  # for slots that are not zero
    for batch in given[2:]:
        start = micro.state()
        after = [step_from(each, start, batch) for each in (micro, plain, exact)]
        # By the same chunks as micro, which draws the same roundings, and by others.
        others = [step_from(chunks, start, batch)]
        for _ in range(4):
            # The masks belong to the rows as they are.
            order = np.arange(BATCH) if masked else random.permutation(BATCH)
            shuffled = tf.nest.map_structure(lambda x, order=order: x[order], batch)
            others.append(step_from(chunks, rounded(start, micro, random), shuffled))
        assert_accurate(*after, few_ulp(after[1], others))


def step_from(trainer: Trainer, start: State, batch: Any) -> State:
    trainer.set_state(start)
    trainer.step(batch)
    return trainer.state()


def rounded(start: State, trainer: Trainer, random: np.random.Generator) -> State:
    """The weights as another order of operations might have rounded them."""
    weights = list(start)[: len(trainer.model.variables)]
    return {
        name: rounded_otherwise(value, random)
        if name in weights and value.dtype.kind == "f"
        else value
        for name, value in start.items()
    }


def few_ulp(plain: State, others: Sequence[State]) -> State:
    """A few ulp of the values, and how far plain TensorFlow gets by other orders."""
    few = {}
    for name, value in plain.items():
        ulp = np.spacing(np.max(np.abs(value), initial=0)) if value.dtype.kind == "f" else 0
        apart = [np.max(np.abs(np.subtract(other[name], value, dtype=float))) for other in others]
        few[name] = np.asarray(FEW * ulp + max(apart))
    return few


@pytest.mark.parametrize("reduce", [tf.reduce_mean, tf.reduce_sum])
def test_nothing_is_scaled(reduce: Callable[[Any], Any]) -> None:
    """The seed is that of the whole batch, whether its loss is a mean or a sum."""

    def loss(iv: Any) -> Any:
        return reduce(tf.square(iv))

    case = CASES["mlp"]
    # Unlike Adam, plain SGD sees every factor.
    options: dict[str, Any] = {"loss": loss, "optimizer": lambda: keras.optimizers.SGD(0.01)}
    micro, plain = (Trainer(case, path, **options) for path in (MICRO, PLAIN))
    assert_same(run(micro, batches(case)), run(plain, batches(case)))


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "clipnorm": lambda: keras.optimizers.SGD(0.1, momentum=0.9, clipnorm=0.02),
    "global_clipnorm": lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.02),
    "clipvalue": lambda: keras.optimizers.AdamW(0.01, clipvalue=0.003, weight_decay=0.1),
    "ema": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.7),
    "accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), 16.0),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
    "rowwise": lambda: RowwiseAdagrad(0.1),
    "declined": lambda: keras.optimizers.Lamb(0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer(name: str) -> None:
    case = CASES["embeddings"]
    micro, plain = (Trainer(case, path, optimizer=OPTIMIZERS[name]) for path in (MICRO, PLAIN))
    weights = list(micro.state())[: len(micro.model.variables)]
    start = micro.state()
    # One more step than the accumulation takes, so that there is something in it.
    given = batches(case, steps=STEPS + 1)
    result = run(micro, given)
    assert_same(result, run(plain, given))
    assert_trained({key: start[key] for key in weights}, result[0])
    assert bool(micro.plan.declined) == (name == "declined")


def test_lazy_tables() -> None:
    """Rows that no chunk has looked up stay as they are, and so do their slots."""
    case = CASES["embeddings"]
    micro, lazy = (Trainer(case, MICRO, size=size, sparse="lazy") for size in (4, 100))
    given = batches(case)
    assert_same(run(micro, given), run(lazy, given))
    for planned in micro.plan.tables:
        assert not planned.all_rows
    before = micro.state()
    micro.step(given[0])
    after = micro.state()
    table = next(name for name in before if "embeddings" in name)
    looked_up = np.unique(given[0][0])
    moved = np.flatnonzero((before[table] != after[table]).any(1))
    np.testing.assert_array_equal(moved, looked_up)


def test_a_step_that_is_not_finite_is_left_out() -> None:
    case = CASES["mlp"]

    def loss(iv: Any) -> Any:
        return contrastive(iv) * tf.where(tf.reduce_max(iv) > 1e3, np.float64(np.nan), 1.0)

    micro = Trainer(case, MICRO, loss=loss, skip_nonfinite=True)
    given = batches(case)
    micro.step(given[0])
    before = micro.state()
    bad = given[1].copy()
    bad[9] = np.inf
    micro.step(bad)
    for name, value in micro.state().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    micro.step(given[2])
    assert_trained(before, micro.state())


def test_one_trace_takes_batches_of_any_size() -> None:
    case = CASES["mlp"]
    micro, plain = (Trainer(case, path) for path in (MICRO, PLAIN))
    random = np.random.default_rng(3)
    given = [case.inputs(random, rows) for rows in (11, 8, 1, 3, 4, 13)]
    assert_same(run(micro, given), run(plain, given))
    assert micro._step.experimental_get_tracing_count() == 2  # the first one, and any rows


def test_the_same_bits_again() -> None:
    case = CASES["embeddings"]
    first, second = (run(Trainer(case, MICRO, "float32"), batches(case))[0] for _ in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)
