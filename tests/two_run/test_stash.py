"""forward="stash": run 1 keeps what run 2 needs; and what "recompute" keeps, too."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src.graph.handover import can_be_repeated
from tests.two_run.models import BATCH, FEATURES, Model, Trainer, dense, feeds
from tests.two_run.test_flow import (
    MODELS,
    OPTIMIZERS,
    PATHS,
    assert_equal,
    assert_same_training,
    moved,
)

tf1 = tf.compat.v1

Make = Callable[..., Trainer]

adam = OPTIMIZERS["adam"]
ERROR = tf.errors.InvalidArgumentError


class Dropped(Model):
    """Its second part ends in a stateful dropout."""

    def __init__(self) -> None:
        super().__init__(last=lambda z: drop_half(tf.nn.tanh(z)))


def split_with(optimizer: Any, loss: Any, iv: Any, path: str, forward: str) -> splitop.SplitOps:
    return splitop.split_minimize(
        loss,
        iv,
        first_optimizer=optimizer(1.0),
        second_optimizer=optimizer(1.0),
        forward=forward,
        backend=path,
    )


def drop_half(h: Any) -> Any:
    return tf.nn.dropout(h, 0.5)


def check_masks(drop: Callable[[Any], Any], path: str, forward: str) -> None:
    """Trains with a dropout behind the second part's kernel; each step has the mask of run 1."""
    with tf.Graph().as_default(), tf1.Session() as session:
        x = tf1.placeholder(tf.float32, [None, FEATURES])
        with tf1.variable_scope("second_part"):
            kernel = tf1.get_variable("k", [FEATURES, 9])
            iv = drop(tf.matmul(x, kernel))
        with tf1.variable_scope("first_part"):
            loss = tf.reduce_sum(dense(iv, 1, "out"))
        ops = split_with(tf1.train.GradientDescentOptimizer, loss, iv, path, forward)
        session.run(tf1.global_variables_initializer())
        random = np.random.default_rng(0)
        for _ in range(4):
            batch, seed = random.normal(size=(BATCH, FEATURES)), random.normal(size=(BATCH, 9))
            before = session.run(kernel)
            out = session.run([iv, ops.keep], {x: batch})[0]
            fed = {x: batch} if forward == "recompute" else {}
            session.run(ops.train_second, {**fed, ops.iv_gradients_ph: seed})
            step = batch.T @ (seed * (out != 0) / 0.5)
            np.testing.assert_allclose(before - session.run(kernel), step, 1e-4, 1e-5)


def both_runs(each: Trainer, step: int) -> None:
    second, first = feeds(each.model, step)
    each.session.run(each.ops.train_first, {**second, **first})
    each.session.run(each.ops.train_second)


def keep(each: Trainer, step: int) -> None:
    second, first = feeds(each.model, step)
    each.session.run(each.ops.keep, {**second, **first})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", ["adam", "proximal", "keras adam"])
def test_is_the_flow_that_recomputes(trainer: Make, path: str, model: str, optimizer: str) -> None:
    stash, again = (
        trainer(path, OPTIMIZERS[optimizer], MODELS[model], forward=forward)
        for forward in ("stash", "recompute")
    )
    start = stash.state()
    for step in range(4):
        both_runs(stash, step)
        again.run_2(step, again.run_1(step))
    assert_same_training(path, stash.state(), again.state())
    assert moved(start, stash.state()) >= {variable.name for variable in stash.weights}


@pytest.mark.parametrize("path", PATHS)
def test_another_seed_may_be_fed(trainer: Make, path: str) -> None:
    stash, again = trainer(path, adam, forward="stash"), trainer(path, adam)
    for step in range(3):
        seed = np.random.default_rng(step).normal(size=(BATCH, 4))
        keep(stash, step)
        stash.session.run(stash.ops.train_second, stash.with_seed(seed))
        again.run_2(step, seed)
    assert_same_training(path, stash.state(), again.state())


def test_the_seed_is_fed_to_its_placeholder_only(trainer: Make) -> None:
    each = trainer("auto", adam, forward="stash")
    keep(each, 0)
    with pytest.raises(ValueError, match="may not be fed"):
        each.session.run(each.ops.train_second, {each.ops.iv_gradients: np.ones([BATCH, 4])})


@pytest.mark.parametrize("path", PATHS)
class TestErrors:
    def test_nothing_was_kept(self, trainer: Make, path: str) -> None:
        each = trainer(path, adam, forward="stash")
        before = each.state()
        with pytest.raises(
            ERROR, match=r"StashError: .*train_first or keep.*Received: nothing kept"
        ):
            each.session.run(each.ops.train_second)
        assert moved(before, each.state()) == set()

    def test_it_is_used_up(self, trainer: Make, path: str) -> None:
        each = trainer(path, adam, forward="stash")
        both_runs(each, 0)
        before = each.state()
        with pytest.raises(ERROR, match="StashError"):
            each.session.run(each.ops.train_second)
        assert moved(before, each.state()) == set()

    def test_the_weights_have_moved(self, trainer: Make, path: str) -> None:
        # Pitfall 14.
        each = trainer(path, adam, forward="stash")
        kernel = next(w for w in each.weights if w.name == "second_part/low/k:0")
        with each.session.graph.as_default():
            write = kernel.assign_add(np.ones(kernel.shape))
        keep(each, 0)
        each.session.run(write)
        before = each.state()
        with pytest.raises(ERROR, match=r"StashError: .*moved.*a write to .*second_part/low/k:0"):
            each.session.run(each.ops.train_second)
        assert moved(before, each.state()) == set()

    def test_both_parts_were_trained_in_between(self, trainer: Make, path: str) -> None:
        each = trainer(path, adam, forward="stash")
        keep(each, 0)
        each.run_both(1)
        before = each.state()
        with pytest.raises(ERROR, match="StashError"):
            each.session.run(each.ops.train_second)
        assert moved(before, each.state()) == set()

    def test_a_seed_of_another_batch(self, trainer: Make, path: str) -> None:
        each = trainer(path, adam, forward="stash")
        keep(each, 0)
        before = each.state()
        with pytest.raises(ERROR, match=r"SeedError.*iv_gradients_ph"):
            each.session.run(each.ops.train_second, each.with_seed(np.ones([5, 4])))
        assert moved(before, each.state()) == set()


def test_the_library_is_missing(trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the values are compared."""
    monkeypatch.setattr("splitop._src.library.reason", lambda: "not built, for this test")
    each = trainer("reference", adam, forward="stash")
    both_runs(each, 0)
    kernel = next(w for w in each.weights if w.name == "second_part/low/k:0")
    with each.session.graph.as_default():
        write = kernel.assign_add(np.ones(kernel.shape))
    keep(each, 1)
    each.session.run(write)
    with pytest.raises(ERROR, match=r"StashError: .*moved.*second_part/low/k:0"):
        each.session.run(each.ops.train_second)


def test_no_weight_is_copied() -> None:
    with tf.Graph().as_default(), tf1.Session() as session:
        model = Model()
        sgd = tf1.train.GradientDescentOptimizer
        ops = splitop.split_minimize(
            model.loss,
            model.iv,
            first_optimizer=sgd(0.1),
            second_optimizer=sgd(0.1),
            forward="stash",
        )
        assert len(ops.second_plan.fused) == 4
        places = [
            tf.numpy_function(lambda value: np.int64(value.ctypes.data), [weight], tf.int64)
            for weight in tf1.trainable_variables()
        ]
        session.run(tf1.global_variables_initializer())
        second, first = feeds(model, 0)
        before = None
        for _ in range(10):
            session.run(ops.train_first, {**second, **first})
            session.run(ops.train_second)
            now = session.run(places)  # The first step may take over an initial value's buffer.
            assert before is None or now == before
            before = now


def test_the_forward_pass_runs_once(trainer: Make) -> None:
    calls: list[int] = []

    def count(value: np.ndarray) -> np.ndarray:
        calls.append(1)
        return value

    def counted(z: Any) -> Any:
        @tf.custom_gradient
        def op(z: Any) -> Any:
            y = tf.numpy_function(count, [z], tf.float32)
            y.set_shape(z.shape)
            return y, lambda dy: dy

        return tf.nn.tanh(op(z))

    each = trainer("auto", adam, functools.partial(Model, last=counted), forward="stash")
    for step in range(3):
        both_runs(each, step)
    assert len(calls) == 3


@pytest.mark.parametrize("forward", ["stash", "recompute"])
@pytest.mark.parametrize("path", PATHS)
class TestWhatCanNotBeComputedTwice:
    def test_the_dropout_mask_is_that_of_run_1(self, path: str, forward: str) -> None:
        # Pitfall 12.
        check_masks(drop_half, path, forward)

    def test_a_data_set_moves_once(self, path: str, forward: str) -> None:
        # Pitfall 13.
        with tf.Graph().as_default(), tf1.Session() as session:
            data = tf.data.Dataset.range(100).map(
                lambda i: tf.fill([BATCH, FEATURES], tf.cast(i + 1, tf.float32))
            )
            x = tf1.data.make_one_shot_iterator(data).get_next()
            with tf1.variable_scope("second_part"):
                kernel = tf1.get_variable("k", [FEATURES, 2])
                iv = tf.matmul(x, kernel)
            with tf1.variable_scope("first_part"):
                loss = tf.reduce_sum(dense(iv, 1, "out"))
            ops = split_with(tf1.train.GradientDescentOptimizer, loss, iv, path, forward)
            session.run(tf1.global_variables_initializer())
            for number in range(1, 4):
                before = session.run(kernel)
                session.run(ops.keep)
                session.run(ops.train_second, {ops.iv_gradients_ph: np.ones([BATCH, 2])})
                step = np.full(before.shape, number * BATCH)
                np.testing.assert_allclose(before - session.run(kernel), step, 1e-6)

    def test_run_2_needs_a_run_1(self, trainer: Make, path: str, forward: str) -> None:
        each = trainer(path, adam, Dropped, forward=forward)
        second, _ = feeds(each.model, 0)
        before = each.state()
        with pytest.raises(ERROR, match="StashError"):
            each.session.run(each.ops.train_second, {**second, **each.with_seed(np.ones([6, 4]))})
        assert moved(before, each.state()) == set()


@pytest.mark.parametrize("forward", ["stash", "recompute"])
@pytest.mark.parametrize("nest", ["function", "cond"])
def test_a_mask_that_is_drawn_in_a_function(nest: str, forward: str) -> None:
    def drop(h: Any) -> Any:
        training = tf1.placeholder_with_default(True, [])
        if nest == "function":
            iv = tf.function(drop_half)(h) * 1.0
        else:
            iv = tf.cond(training, lambda: drop_half(h), lambda: h) * 1.0
        return tf.ensure_shape(iv, [None, 9])

    check_masks(drop, "auto", forward)


@pytest.mark.parametrize("forward", ["stash", "recompute"])
def test_what_global_step_moves_is_that_of_run_1(forward: str) -> None:
    with tf.Graph().as_default(), tf1.Session() as session:
        x = tf1.placeholder(tf.float32, [None, FEATURES])
        global_step = tf1.train.create_global_step()
        with tf1.variable_scope("second_part"):
            kernel = tf1.get_variable("k", [FEATURES, 2])
            iv = tf.matmul(x, kernel) * tf.cast(global_step + 1, tf.float32)
        with tf1.variable_scope("first_part"):
            loss = tf.reduce_sum(dense(iv, 1, "out"))
        sgd = tf1.train.GradientDescentOptimizer
        ops = splitop.split_minimize(
            loss,
            iv,
            first_optimizer=sgd(1.0),
            second_optimizer=sgd(1.0),
            forward=forward,
            global_step=global_step,
        )
        session.run(tf1.global_variables_initializer())
        for number in (1, 2, 3):
            before = session.run(kernel)
            session.run(ops.train_first, {x: np.ones([3, FEATURES])})
            fed = {x: np.ones([3, FEATURES])} if forward == "recompute" else {}
            session.run(ops.train_second, {**fed, ops.iv_gradients_ph: np.ones([3, 2])})
            step = np.full(before.shape, 3 * number)
            np.testing.assert_allclose(before - session.run(kernel), step, 1e-5)


def test_the_array_that_was_fed_may_be_filled_anew(trainer: Make) -> None:
    """A session feeds an aligned array as it is, without a copy."""
    buffers = np.empty(BATCH * FEATURES + 16, np.float32)
    start = -(buffers.ctypes.data // 4) % 16
    buffer = buffers[start : start + BATCH * FEATURES].reshape(BATCH, FEATURES)
    assert buffer.ctypes.data % 64 == 0
    reused, fresh = (trainer("auto", adam, forward="stash") for _ in range(2))
    for step in range(3):
        second, first = feeds(reused.model, step)
        buffer[:] = second[reused.model.x]
        reused.session.run(reused.ops.train_first, {reused.model.x: buffer, **first})
        buffer[:] = 99
        reused.session.run(reused.ops.train_second)
        both_runs(fresh, step)
    assert_equal(reused.state(), fresh.state())


def test_a_learning_rate_is_fed_to_the_run_that_uses_it() -> None:
    with tf.Graph().as_default(), tf1.Session() as session:
        x, rate = tf1.placeholder(tf.float32, [None, 3]), tf1.placeholder(tf.float32, [])
        with tf1.variable_scope("second_part"):
            # From 0 the steps are exact.
            kernel = tf1.get_variable("k", [3, 2], initializer=tf1.zeros_initializer())
            iv = tf.matmul(x, kernel)
        with tf1.variable_scope("first_part"):
            loss = tf.reduce_sum(dense(iv, 1, "out"))
        ops = splitop.split_minimize(
            loss,
            iv,
            first_optimizer=tf1.train.GradientDescentOptimizer(0.1),
            second_optimizer=tf1.train.GradientDescentOptimizer(rate / 2),
            forward="stash",
        )
        session.run(tf1.global_variables_initializer())
        for value in (1.0, 4.0):
            before = session.run(kernel)
            session.run(ops.train_first, {x: np.ones([2, 3])})
            session.run(ops.train_second, {ops.iv_gradients_ph: np.ones([2, 2]), rate: value})
            np.testing.assert_allclose(before - session.run(kernel), np.full([3, 2], value))


@pytest.mark.parametrize("nested", [False, True])
def test_a_table_in_the_first_run_of_a_session(nested: bool) -> None:
    """Its first lookup gives the table another buffer; nothing has moved."""
    with tf.Graph().as_default() as graph:
        ids = tf1.placeholder(tf.int32, [None])
        with tf1.variable_scope("second_part"):
            table = tf1.get_variable("table", [7, 3])
            lookup = tf.function(tf.nn.embedding_lookup) if nested else tf.nn.embedding_lookup
            iv = tf.tanh(lookup(table, ids))
        with tf1.variable_scope("first_part"):
            loss = tf.reduce_sum(dense(tf.ensure_shape(iv, [None, 3]), 1, "out"))
        ops = split_with(tf1.train.GradientDescentOptimizer, loss, iv, "auto", "stash")
        for _ in range(10):
            with tf1.Session(graph=graph) as session:
                session.run(tf1.global_variables_initializer())
                session.run(ops.train_first, {ids: [1, 2, 1]})
                session.run(ops.train_second)


def test_nothing_is_kept_of_a_part_that_can_be_computed_twice(trainer: Make) -> None:
    assert trainer("auto", adam).ops.keep is None


@pytest.mark.parametrize("fed", [False, True])
def test_memory_is_released(trainer: Make, fed: bool) -> None:
    # Pitfall 15.
    each = trainer("auto", adam, forward="stash")
    with each.session.graph.as_default():
        names = {
            op.get_attr("shared_name"): op.get_attr("dtype")
            for op in each.session.graph.get_operations()
            if op.type == "VarHandleOp" and op.get_attr("shared_name").startswith(b"splitop_stash")
        }
        there = [
            tf.raw_ops.VarIsInitializedOp(
                resource=tf.raw_ops.VarHandleOp(dtype=dtype, shape=None, shared_name=name)
            )
            for name, dtype in names.items()
        ]
    keep(each, 0)
    assert len(there) > 8
    assert all(each.session.run(there))
    seed = each.with_seed(np.ones([BATCH, 4])) if fed else {}
    each.session.run(each.ops.train_second, seed)
    assert not any(each.session.run(there))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_recurrent_layers_of_cudnn_can_be_repeated(dropout: float) -> None:
    """They are only built here: they run on GPUs."""
    with tf.Graph().as_default():
        output, *_ = tf.raw_ops.CudnnRNNV3(
            input=tf.ones([4, 1, 3]),
            input_h=tf.zeros([1, 1, 3]),
            input_c=tf.zeros([1, 1, 3]),
            params=tf.zeros([100]),
            sequence_lengths=tf.constant([4]),
            dropout=dropout,
        )
        assert can_be_repeated([output], []) == (dropout == 0)


def looped(inside: bool) -> Any:
    """Plans a step of a second part that is a loop, in a tf.function or not."""
    x = tf1.placeholder_with_default(tf.ones([2, 3]), [None, 3])
    with tf1.variable_scope("second_part"):
        kernel = tf1.get_variable("k", [3, 3])

        def loop(x: Any) -> Any:
            return tf.while_loop(
                lambda i, h: i < 3,
                lambda i, h: (i + 1, tf.tanh(tf.matmul(h, kernel))),
                (0, x),
            )[1]

        iv = tf.function(loop)(x) if inside else loop(x)
    with tf1.variable_scope("first_part"):
        loss = tf.reduce_sum(dense(tf.ensure_shape(iv, [None, 3]), 1, "out"))
    return split_with(tf1.train.GradientDescentOptimizer, loss, iv, "auto", "stash")


def test_a_loop_of_tf1() -> None:
    with tf.Graph().as_default():
        tf1.disable_control_flow_v2()
        try:
            with pytest.raises(splitop.SplitError, match=r"enable_control_flow_v2.*Received: "):
                looped(inside=False)
        finally:
            tf1.enable_control_flow_v2()


def test_a_loop_in_a_function() -> None:
    with (
        tf.Graph().as_default(),
        pytest.raises(splitop.SplitError, match=r"build the loop outside of the tf\.function, or"),
    ):
        looped(inside=True)
    with tf.Graph().as_default(), tf1.Session() as session:
        ops = looped(inside=False)
        session.run(tf1.global_variables_initializer())
        kernel, *_ = tf1.trainable_variables("second_part")
        before = session.run(kernel)
        session.run(ops.train_first)
        session.run(ops.train_second)
        assert np.all(session.run(kernel) != before)
