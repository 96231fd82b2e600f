"""splitop.keras.RowwiseAdagrad: what is fused of it, and that it is the formula on every path."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop.keras import RowwiseAdagrad
from tests.planner.lookups import IDS, ROWS, WIDTH, table
from tests.planner.models import Weights, dense
from tests.planner.steps import Steps, assert_same_values, run_steps
from tests.planner.test_tables import BATCHES, DISTINCT

# Powers of two: float32, in which Keras keeps the rate, rounds none.
LR, START, EPSILON = 2.0**-3, 2.0**-4, 2.0**-16


def make(**options: Any) -> RowwiseAdagrad:
    return RowwiseAdagrad(LR, START, EPSILON, **options)


def adagrad_by_rows(w: np.ndarray, s: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The formula, for a matrix and its dense gradient."""
    s = s + (g * g).mean(axis=1)
    return w - LR / (np.sqrt(s) + EPSILON)[:, np.newaxis] * g, s


def all_kinds(w: Weights, ids: Any) -> Any:
    """Two tables, one in bags, a layer, a norm with vectors, and a scalar."""
    bags = tf.reduce_mean(tf.gather(w("bags", ROWS, 7), ids), 1)
    h = tf.concat([bags, tf.reshape(tf.gather(table(w), ids), [-1, 3 * WIDTH])], 1)
    h = w.layer("norm", keras.layers.LayerNormalization, dense(w, "low", h, 5, "tanh"))
    return dense(w, "top", h * w("gain"), 3)


def both(build: Callable[..., Any], optimizer: Callable[[], Any], **options: Any) -> Steps:
    fused, reference = (
        run_steps("keras", build, optimizer, BATCHES, backend=backend, **options)
        for backend in ("auto", "reference")
    )
    assert_same_values(fused, reference)
    return fused


OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "weight decay": {"weight_decay": 0.25},
    "clipnorm": {"clipnorm": 0.5},
    "global_clipnorm": {"global_clipnorm": 1.0},
    "clipvalue": {"clipvalue": 0.05},
    "averages": {"use_ema": True, "ema_overwrite_frequency": 2},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_trains_as_the_reference(name: str) -> None:
    steps = both(all_kinds, lambda: make(**OPTIONS[name]))
    decays = name == "weight decay"
    assert {each.table: each.all_rows for each in steps.plan.tables} == {
        "bags:0": decays,
        "table:0": decays,
    }
    assert steps.plan.declined == {}
    assert steps.plan.chains == ()
    assert all("rowwise_adagrad takes each row" in why for why in steps.plan.updated.values())


@pytest.mark.parametrize("options", [{}, {"clipnorm": 0.5}])
def test_accumulated_gradients(options: dict[str, Any]) -> None:
    """What is fused with the backward pass is the accumulation."""
    steps = both(all_kinds, lambda: make(gradient_accumulation_steps=2, **options))
    assert steps.plan.declined == {}
    assert {layer.kernel for chain in steps.plan.chains for layer in chain.layers} == {
        "low_k:0",
        "top_k:0",
    }


def test_in_a_loss_scale_optimizer() -> None:
    both(all_kinds, lambda: keras.optimizers.LossScaleOptimizer(make(), 8.0))


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_is_the_formula(backend: str) -> None:
    """Of an id that was looked up several times, the sum is squared; other rows keep their bits."""
    steps = run_steps(
        "keras", lambda w, ids: tf.gather(table(w), ids), make, BATCHES, backend=backend
    )
    w = start = table(Weights()).numpy()
    s = np.full(ROWS, START)
    for ids in BATCHES:
        g = np.zeros_like(w)
        seed = np.sin(np.arange(ids.size * WIDTH) + 1.0)
        np.add.at(g, ids.ravel(), seed.reshape(ids.size, WIDTH))
        w, s = adagrad_by_rows(w, s, g)
    values = dict(steps.values)
    (accumulators,) = (v for name, v in values.items() if name.endswith("accumulator"))
    np.testing.assert_allclose(values["table"], w, rtol=1e-12)
    np.testing.assert_allclose(accumulators, s, rtol=1e-12)
    (untouched,) = np.nonzero(s == START)
    assert untouched.size
    np.testing.assert_array_equal(values["table"][untouched], start[untouched])
    np.testing.assert_array_equal(accumulators[untouched], START)


def test_lazy_is_the_same() -> None:
    lazy, exact = (
        run_steps("keras", all_kinds, make, BATCHES, backend="fused", sparse=sparse)
        for sparse in ("lazy", "exact")
    )
    for (name, value), (_, expected) in zip(lazy.values, exact.values, strict=True):
        np.testing.assert_array_equal(value, expected, err_msg=name)


def test_a_table_with_a_dense_gradient() -> None:
    """The same rows as a product with a one-hot matrix: not a table to the planner."""
    one_hot = run_steps(
        "keras",
        lambda w, ids: tf.matmul(tf.one_hot(ids[:, 0], ROWS, dtype=tf.float64), table(w)),
        make,
        DISTINCT,
        backend="fused",
    )
    assert one_hot.plan.tables == ()
    looked_up = run_steps(
        "keras", lambda w, ids: tf.gather(table(w), ids[:, 0]), make, DISTINCT, backend="fused"
    )
    assert_same_values(one_hot, looked_up)


def test_a_bad_id_changes_nothing() -> None:
    w = Weights()
    all_kinds(w, tf.constant(IDS))
    optimizer = make()
    optimizer.build(w.variables)

    @tf.function(autograph=False)
    def step(ids: Any) -> None:
        splitop.minimize(optimizer, all_kinds(w, ids), w.variables, backend="fused")

    variables = [*w.variables, *optimizer.variables]
    before = [np.asarray(variable).copy() for variable in variables]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"in \[0, 10\)"):
        step(tf.constant(np.where(IDS == 7, ROWS, IDS)))
    for old, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(variable, old)


def test_on_a_gpu_it_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitop._src.library.cuda_reason", lambda: None)
    with tf.Graph().as_default(), tf.device("/GPU:0"):
        w = Weights()
        iv = all_kinds(w, tf.compat.v1.placeholder(tf.int64, [None, 3]))
        plan = splitop.plan(make(), iv, w.variables)
    assert plan.fused == ()
    reason = "the update rule rowwise_adagrad is fused on CPUs only"
    assert set(plan.declined.values()) == {reason}


def small_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(ROWS, WIDTH),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )


def fit(model: keras.Model) -> None:
    y = np.random.default_rng(1).normal(size=(len(IDS), 2)).astype(np.float32)
    model.fit(IDS, y, batch_size=3, epochs=2, shuffle=False, verbose=0)


class TestInKeras:
    def test_compile_and_fit(self) -> None:
        """XLA gives what TensorFlow gives, and neither needs splitop's ops."""
        values = []
        for jit_compile in (False, True):
            model = small_model()
            model.compile(make(weight_decay=0.1, clipnorm=1.0), "mse", jit_compile=jit_compile)
            before = [np.asarray(variable) for variable in model.trainable_variables]
            fit(model)
            values.append([np.asarray(v) for v in [*model.variables, *model.optimizer.variables]])
            for old, variable in zip(before, model.trainable_variables, strict=True):
                assert (np.asarray(variable) != old).any()
        for plain, compiled in zip(*values, strict=True):
            np.testing.assert_allclose(compiled, plain, rtol=1e-5, atol=1e-6)

    def test_the_state_is_one_number_a_row(self) -> None:
        model, optimizer = small_model(), make()
        optimizer.build(model.trainable_variables)
        shapes = [tuple(v.shape) for v in optimizer.variables if "accumulator" in v.path]
        assert shapes == [(ROWS,), (3 * WIDTH,), (2,)]

    @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras
    def test_a_saved_model_goes_on_where_it_was(self, tmp_path: pathlib.Path) -> None:
        model = small_model()
        model.compile(make(clipvalue=0.5), "mse")
        fit(model)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert type(loaded.optimizer) is RowwiseAdagrad
        assert loaded.optimizer.get_config() == model.optimizer.get_config()
        for trained in (model, loaded):
            fit(trained)
        for one, other in zip(
            [*model.variables, *model.optimizer.variables],
            [*loaded.variables, *loaded.optimizer.variables],
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)

    def test_a_checkpoint_does_not_know_the_path(self, tmp_path: pathlib.Path) -> None:
        def run(backend: str, steps: int, restored: str | None) -> tuple[list[np.ndarray], Any]:
            model, optimizer = small_model(), make()
            optimizer.build(model.trainable_variables)
            checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
            if restored is not None:
                checkpoint.read(restored).assert_consumed()

            @tf.function(autograph=False)
            def step(ids: Any) -> None:
                variables = model.trainable_variables
                splitop.minimize(optimizer, model(ids), variables, tf.ones([6, 2]), backend=backend)

            for batch in BATCHES[:steps]:
                step(tf.constant(batch))
            variables = [*model.variables, *optimizer.variables]
            return [np.asarray(v) for v in variables], checkpoint

        _, checkpoint = run("fused", 2, None)
        path = checkpoint.write(str(tmp_path / "ckpt"))
        fused, _ = run("fused", 3, path)
        reference, _ = run("reference", 3, path)
        for one, other in zip(fused, reference, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("argument", ["initial_accumulator_value", "epsilon"])
    @pytest.mark.parametrize("value", [-1e-9, float("nan")])
    def test_a_negative_number(self, argument: str, value: float) -> None:
        with pytest.raises(splitop.SplitError, match=rf"{argument} must be at least 0.*Received: "):
            RowwiseAdagrad(**{argument: value})

    def test_an_unknown_option(self) -> None:
        with pytest.raises(ValueError, match="momentum"):
            RowwiseAdagrad(0.1, momentum=0.9)
