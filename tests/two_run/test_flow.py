"""The two-run flow trains as it should, on both paths."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.two_run.models import Model, Trainer, feeds

tf1 = tf.compat.v1

Make = Callable[..., Trainer]

PATHS = ("auto", "reference")
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "sgd": lambda: tf1.train.GradientDescentOptimizer(0.1),
    "momentum": lambda: tf1.train.MomentumOptimizer(0.1, 0.9),
    "adam": lambda: tf1.train.AdamOptimizer(0.05),
    "rmsprop": lambda: tf1.train.RMSPropOptimizer(0.01),
    "proximal": lambda: tf1.train.ProximalAdagradOptimizer(0.05),
    "keras adam": lambda: keras.optimizers.Adam(0.05),
}
MODELS: dict[str, Callable[[], Model]] = {
    "dense": Model,
    "two ivs": functools.partial(Model, two_ivs=True),
    "conv": functools.partial(Model, conv=True),
}
# Path, optimizer, model, and how many of the model's variables are fused.
CASES = [
    ("auto", "sgd", "dense", 8),
    ("auto", "momentum", "dense", 8),
    ("auto", "adam", "dense", 8),
    ("auto", "rmsprop", "dense", 8),
    ("auto", "proximal", "dense", 0),
    ("auto", "keras adam", "dense", 8),
    ("auto", "adam", "two ivs", 10),
    ("auto", "adam", "conv", 9),
    ("reference", "adam", "two ivs", 0),
    ("reference", "keras adam", "conv", 0),
]

adam = OPTIMIZERS["adam"]


def assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    # By position: Keras numbers its optimizers, so that names differ.
    for (name, left), right in zip(a.items(), b.values(), strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


def assert_same_training(path: str, a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    """The same bits on the reference path; else run 2's forward pass may be the op's own."""
    tolerance = (0, 0) if path == "reference" else (1e-5, 1e-6)
    for (name, left), right in zip(a.items(), b.values(), strict=True):
        np.testing.assert_allclose(left, right, *tolerance, err_msg=name)


def moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {name for name, value in after.items() if (value != before[name]).any()}


@pytest.mark.parametrize(("path", "optimizer", "model", "fused"), CASES)
def test_one_run_is_two_runs(
    trainer: Make, path: str, optimizer: str, model: str, fused: int
) -> None:
    two, both = (trainer(path, OPTIMIZERS[optimizer], MODELS[model]) for _ in range(2))
    assert len(two.ops.first_plan.fused) + len(two.ops.second_plan.fused) == fused
    start = two.state()
    for step in range(4):
        two.run_2(step, two.run_1(step))
        both.run_both(step)
    assert_same_training(path, two.state(), both.state())
    weights = {variable.name for variable in two.weights}
    assert moved(start, two.state()) >= weights


@pytest.mark.parametrize("path", PATHS)
class TestTheSeed:
    def test_is_from_before_the_update(self, trainer: Make, path: str) -> None:
        # Pitfall 3.
        each = trainer(path, adam)
        for step in range(8):
            alone = each.gradients(step)
            np.testing.assert_array_equal(each.run_1(step), alone)
            assert (each.gradients(step) != alone).any()

    def test_is_the_gradient_of_the_loss_and_trains_nothing(self, trainer: Make, path: str) -> None:
        each = trainer(path, adam)
        with each.session.graph.as_default():
            expected = tf.gradients(each.model.loss, each.model.iv)[0]
        second, first = feeds(each.model, 0)
        before = each.state()
        np.testing.assert_array_equal(
            each.gradients(0), each.session.run(expected, {**second, **first})
        )
        assert moved(before, each.state()) == set()


def test_the_seed_has_the_structure_of_iv(trainer: Make) -> None:
    each = trainer("auto", adam, MODELS["two ivs"])
    tf.nest.assert_same_structure(each.ops.iv_gradients, each.model.iv)
    shapes = tf.nest.map_structure(lambda t: t.shape, each.ops.iv_gradients_ph)
    assert shapes == {"a": tf.TensorShape([None, 4]), "b": (tf.TensorShape([None, 2]),)}


@pytest.mark.parametrize("path", PATHS)
def test_each_run_trains_its_part_only(trainer: Make, path: str) -> None:
    each = trainer(path, adam)
    weights = {variable.name for variable in each.weights}
    start = each.state()
    seed = each.run_1(0)
    middle = each.state()
    assert moved(start, middle) & weights == {w for w in weights if w.startswith("first_part/")}
    each.run_2(0, seed)  # Needs no labels.
    end = each.state()
    assert moved(middle, end) & weights == {w for w in weights if w.startswith("second_part/")}


@pytest.mark.parametrize("path", PATHS)
def test_a_value_fed_for_iv_reaches_the_first_part_only(trainer: Make, path: str) -> None:
    # Pitfall 11.
    each, again, other = (trainer(path, adam) for _ in range(3))
    seed = each.gradients(0)
    fed = {each.model.iv: np.full([6, 4], 0.9, np.float32)}
    second, first = feeds(each.model, 0)
    assert (each.session.run(each.ops.iv_gradients, {**first, **fed}) != seed).any()
    each.session.run(each.ops.train_second, {**second, **each.with_seed(seed), **fed})
    second, _ = feeds(again.model, 0)
    fed = {again.model.iv: np.full([6, 4], -3.0, np.float32)}
    again.session.run(again.ops.train_second, {**second, **again.with_seed(seed), **fed})
    assert_equal(each.state(), again.state())
    other.run_2(0, seed)
    # Where nothing is fed, TensorFlow fuses other operations, which may round otherwise.
    expected = other.state()
    for name, value in each.state().items():
        np.testing.assert_allclose(value, expected[name], 1e-5, 1e-7, err_msg=name)


def test_a_vector_that_can_not_be_copied_can_not_be_fed(trainer: Make) -> None:
    each = trainer("auto", adam, functools.partial(Model, last=tf.function(tf.nn.relu)))
    assert each.model.iv.op.type == "PartitionedCall"
    each.run_2(0, each.run_1(0))
    with pytest.raises(ValueError, match="may not be fed"):
        each.session.run(each.ops.iv_gradients, {each.model.iv: np.ones([6, 4])})


@pytest.mark.parametrize("path", PATHS)
def test_each_optimizer_counts_once_a_step(trainer: Make, path: str) -> None:
    each = trainer(path, adam)

    def powers() -> list[Any]:
        return [value for name, value in each.state().items() if "beta1_power" in name]

    for step in range(3):
        each.run_2(step, each.run_1(step))
    np.testing.assert_allclose(powers(), [0.9**4] * 2, rtol=1e-6)
    each.run_both(3)
    np.testing.assert_allclose(powers(), [0.9**5] * 2, rtol=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_keras_iterations_and_global_step(path: str) -> None:
    with tf.Graph().as_default(), tf1.Session() as session:
        model = Model()
        optimizers = [keras.optimizers.Adam(), keras.optimizers.SGD()]
        global_step = tf1.train.create_global_step()
        ops = splitop.split_minimize(
            model.loss,
            model.iv,
            first_optimizer=optimizers[0],
            second_optimizer=optimizers[1],
            global_step=global_step,
            backend=path,
        )
        counters = [*(optimizer.iterations.value for optimizer in optimizers), global_step]
        session.run(tf1.global_variables_initializer())
        second, first = feeds(model, 0)
        seed = session.run([ops.train_first, ops.iv_gradients], {**second, **first})[1]
        assert session.run(counters) == [1, 0, 1]
        session.run(ops.train_second, {**second, ops.iv_gradients_ph: seed})
        assert session.run(counters) == [1, 1, 1]
        session.run(ops.train_both, {**second, **first})
        assert session.run(counters) == [2, 2, 2]


def test_no_weight_is_copied() -> None:
    """Also not where the seed's own gradient graph reads it in the same run."""
    with tf.Graph().as_default(), tf1.Session() as session:
        model = Model()
        sgd = tf1.train.GradientDescentOptimizer
        ops = splitop.split_minimize(
            model.loss, model.iv, first_optimizer=sgd(0.1), second_optimizer=sgd(0.1)
        )
        assert len(ops.first_plan.fused) == 4
        places = [
            tf.numpy_function(lambda value: np.int64(value.ctypes.data), [weight], tf.int64)
            for weight in tf1.trainable_variables()
        ]
        session.run(tf1.global_variables_initializer())
        second, first = feeds(model, 0)
        session.run(ops.train_both, {**second, **first})
        before = session.run(places)
        for _ in range(10):
            session.run([ops.train_first, ops.iv_gradients], {**second, **first})
            assert session.run(places) == before


@pytest.mark.parametrize("path", PATHS)
class TestUnfitSeeds:
    def test_of_another_batch(self, trainer: Make, path: str) -> None:
        each = trainer(path, adam)
        before = each.state()
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"SeedError.*iv_gradients_ph"):
            each.run_2(0, np.ones([5, 4]))
        assert moved(before, each.state()) == set()

    def test_that_are_not_finite(self, trainer: Make, path: str) -> None:
        each = trainer(path, adam, check_numerics=True)
        before = each.state()
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"SeedError.*must be finite"):
            each.run_2(0, np.full([6, 4], np.nan))
        assert moved(before, each.state()) == set()


@pytest.mark.parametrize("forward", ["recompute", "stash"])
def test_the_op_runs_what_run_2_computes_again(trainer: Make, forward: str) -> None:
    each = trainer("auto", adam, forward=forward)
    (chain,) = each.ops.second_plan.chains
    assert chain.forward == (forward == "recompute")
    second, _ = feeds(each.model, 0)
    if forward == "stash":
        return
    metadata = tf1.RunMetadata()
    options = tf1.RunOptions(trace_level=tf1.RunOptions.FULL_TRACE)
    seed = each.with_seed(each.gradients(0))
    each.session.run(each.ops.train_second, {**second, **seed}, options, metadata)
    ran = {
        node.timeline_label.partition(" = ")[2].partition("(")[0]
        for device in metadata.step_stats.dev_stats
        for node in device.node_stats
    }
    assert "Splitop>DenseChain" in ran
    assert not ran & {"MatMul", "_FusedMatMul", "Tanh", "Relu"}


@pytest.mark.parametrize("path", PATHS)
def test_run_2_uses_the_weights_that_run_1_has_used(path: str) -> None:
    """The forward pass writes them after it has used them, on the way to iv."""
    trained = _clipped_on_the_way(path)
    for value, expected in zip(trained, _clipped_on_the_way("reference"), strict=True):
        np.testing.assert_allclose(value, expected, 1e-5, 1e-6)


def _clipped_on_the_way(path: str) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    with tf.Graph().as_default():
        x = tf1.placeholder(tf.float32, [None, 5])
        with tf1.variable_scope("second_part"):
            w, b = (
                tf1.get_variable(name, initializer=random.normal(size=shape).astype("f4"))
                for name, shape in (("w", (5, 5)), ("b", 5))
            )
            y = tf.tanh(tf.matmul(x, w) + b)
            with tf.control_dependencies([y]):
                clip = w.assign(tf.clip_by_norm(w, 0.5))
            with tf.control_dependencies([clip]):
                iv = tf.identity(y)
        with tf1.variable_scope("first_part"):
            head = tf1.get_variable("w", initializer=random.normal(size=(5, 2)).astype("f4"))
        sgd = [tf1.train.GradientDescentOptimizer(0.01) for _ in range(2)]
        ops = splitop.split_minimize(
            tf.reduce_sum(tf.matmul(iv, head) ** 2),
            iv,
            first_optimizer=sgd[0],
            second_optimizer=sgd[1],
            backend=path,
        )
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            for _ in range(2):
                fed = {x: random.normal(size=(6, 5))}
                _, seed = session.run([ops.train_first, ops.iv_gradients], fed)
                session.run(ops.train_second, {**fed, ops.iv_gradients_ph: seed})
            return list(session.run([w, b, head]))
