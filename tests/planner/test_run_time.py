"""What only a run can tell: unfit seeds, the order of reads and updates, counters."""

from __future__ import annotations

import collections
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src.run_time_checks import shape_of

tf1 = tf.compat.v1

PATHS = ("fused", "reference")
BATCH = 4


class Part:
    """A second part in a TF1 session: x -> relu -> iv [batch, 2], its seed a placeholder."""

    def __init__(self, path: str, seed_shape: Any = (None, 2), **options: Any) -> None:
        self.x = tf1.placeholder(tf.float32, [None, 3], "x")
        self.seed = tf1.placeholder(tf.float32, seed_shape, "seed")
        h = tf.nn.relu(tf.matmul(self.x, tf1.get_variable("low", [3, 3])))
        self.iv = tf.matmul(h, tf1.get_variable("top", [3, 2]))
        self.variables = tf1.trainable_variables()
        self.global_step = tf1.train.get_or_create_global_step()
        optimizer = tf1.train.AdamOptimizer(0.1)
        plan = splitop.plan(optimizer, self.iv, self.variables, self.seed, backend=path, **options)
        assert bool(plan.fused) == (path == "fused")
        self.step = plan.apply(global_step=self.global_step)
        self.session = tf1.Session()
        self.session.run(tf1.global_variables_initializer())

    def state(self) -> list[np.ndarray]:
        return self.session.run(tf1.global_variables())

    def run(self, seed: Any, batch: int = BATCH) -> None:
        x = np.random.default_rng(0).normal(size=(batch, 3))
        self.session.run(self.step, {self.x: x, self.seed: seed})

    def fails(self, match: str, seed: Any, batch: int = BATCH) -> None:
        """Asserts that a step fails with a message, and leaves everything as it was."""
        before = self.state()
        with pytest.raises(tf.errors.InvalidArgumentError, match=match):
            self.run(seed, batch)
        for old, new in zip(before, self.state(), strict=True):
            np.testing.assert_array_equal(old, new)


@pytest.fixture
def part(graph: Any) -> Iterator[Callable[..., Part]]:
    made: list[Part] = []

    def make(*args: Any, **options: Any) -> Part:
        made.append(Part(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.session.close()


@pytest.mark.parametrize("path", PATHS)
class TestTheSeed:
    # Pitfall 6.

    def test_of_another_batch(self, part: Callable[..., Part], path: str) -> None:
        each = part(path)
        each.fails("SeedError: .*seed:0", np.ones([BATCH - 1, 2]))
        each.run(np.ones([BATCH, 2]))

    def test_of_no_rows(self, part: Callable[..., Part], path: str) -> None:
        part(path).fails("at least one row", np.ones([0, 2]), batch=0)

    @pytest.mark.parametrize(
        "shape", [(BATCH, 1), (BATCH,), (2,), (1, 2), (2, BATCH), (1, BATCH, 2), (0,), ()]
    )
    def test_of_unknown_rank(
        self, part: Callable[..., Part], path: str, shape: tuple[int, ...]
    ) -> None:
        each = part(path, None)
        each.fails(r"SeedError: the seed seed:0 must have the shape.*MatMul_1:0", np.ones(shape))

    def test_that_fits_though_nothing_was_known(self, part: Callable[..., Part], path: str) -> None:
        each = part(path, None)
        before = each.state()
        each.run(np.ones([BATCH, 2]))
        assert all((old != new).any() for old, new in zip(before, each.state(), strict=True))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_that_is_not_finite(self, part: Callable[..., Part], path: str, value: float) -> None:
        seed = np.ones([BATCH, 2])
        seed[1, 1] = value
        part(path, check_numerics=True).fails(
            r"SeedError: the seed seed:0 of .* must be finite", seed
        )

    def test_is_not_looked_at_unless_asked(self, part: Callable[..., Part], path: str) -> None:
        each = part(path)
        each.run(np.full([BATCH, 2], np.nan))
        assert np.isnan(each.session.run(each.variables[1])).any()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("graph")
def test_nothing_is_written_if_one_of_two_seeds_is_unfit(path: str) -> None:
    x = tf1.placeholder(tf.float32, [None, 3], "x")
    seeds = [tf1.placeholder(tf.float32, [None, 2], name) for name in ("good", "bad")]
    ivs = [tf.matmul(x, tf1.get_variable(name, [3, 2])) for name in ("a", "b")]
    variables = tf1.trainable_variables()
    plan = splitop.plan(
        tf1.train.GradientDescentOptimizer(1.0), ivs, variables, seeds, backend=path
    )
    assert len(plan.chains) == (2 if path == "fused" else 0)
    step = plan.apply()
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        before = session.run(variables)
        for _ in range(5):
            feed = {x: np.ones([4, 3]), seeds[0]: np.ones([4, 2]), seeds[1]: np.ones([3, 2])}
            with pytest.raises(tf.errors.InvalidArgumentError, match="SeedError: the seed bad:0"):
                session.run(step, feed)
            np.testing.assert_array_equal(before, session.run(variables))


@pytest.mark.parametrize("path", PATHS)
def test_an_unfit_seed_in_a_tf_function(path: str) -> None:
    kernel, optimizer = tf.Variable(tf.ones([3, 2])), keras.optimizers.SGD()
    specs = [tf.TensorSpec([None, 3]), tf.TensorSpec([None, 2], name="seed")]

    @tf.function(input_signature=specs)
    def step(x: Any, seed: Any) -> None:
        splitop.minimize(optimizer, tf.matmul(x, kernel), [kernel], seed, backend=path)

    with pytest.raises(tf.errors.InvalidArgumentError, match="seed"):
        step(tf.ones([4, 3]), tf.ones([3, 2]))
    np.testing.assert_array_equal(kernel, tf.ones([3, 2]))
    assert optimizer.iterations.numpy() == 0
    step(tf.ones([4, 3]), tf.ones([4, 2]))
    assert optimizer.iterations.numpy() == 1


@pytest.mark.parametrize("path", PATHS)
class TestTheStep:
    def test_counts_once(self, part: Callable[..., Part], path: str) -> None:
        each = part(path)
        for expected in (1, 2):
            each.run(np.ones([BATCH, 2]))
            assert each.session.run(each.global_step) == expected

    def test_what_is_fetched_beside_it_is_from_before(
        self, part: Callable[..., Part], path: str
    ) -> None:
        each = part(path)
        feed = {
            each.x: np.random.default_rng(0).normal(size=(BATCH, 3)),
            each.seed: np.ones([4, 2]),
        }
        for _ in range(10):
            expected = each.session.run(each.iv, feed)
            fetched, _ = each.session.run([each.iv, each.step], feed)
            np.testing.assert_array_equal(fetched, expected)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.usefixtures("graph")
def test_a_late_read_still_sees_the_old_value(path: str) -> None:
    def wait(x: Any) -> Any:
        time.sleep(0.1)
        return x

    x, kernel = tf.ones([4, 3]), tf1.get_variable("k", [3, 2], initializer=tf1.ones_initializer())
    with tf.control_dependencies([tf.numpy_function(wait, [x], tf.float32)]):
        late = kernel.read_value()
    iv = tf.matmul(x, late)
    optimizer = tf1.train.GradientDescentOptimizer(1.0)
    plan = splitop.plan(optimizer, iv, [kernel], tf.ones([4, 2]), backend=path)
    assert len(plan.fused) == (path == "fused")
    step = plan.apply()
    with tf1.Session() as session:
        session.run(tf1.global_variables_initializer())
        fetched, _ = session.run([iv, step])
        np.testing.assert_array_equal(fetched, np.full([4, 2], 3.0))
        np.testing.assert_array_equal(session.run(kernel), np.full([3, 2], -3.0))


def test_a_gradient_with_side_effects_runs_once() -> None:
    """A tf.function runs stateful ops in any case: there must be one of each."""
    calls = []

    def spy(gradient: Any) -> Any:
        calls.append(gradient.shape)
        return gradient

    @tf.custom_gradient
    def watched(x: Any) -> Any:
        def grad(upstream: Any) -> Any:
            result = tf.numpy_function(spy, [upstream], tf.float32)
            result.set_shape(upstream.shape)
            return result

        return tf.identity(x), grad

    kernels = [tf.Variable(tf.ones([3, 3])) for _ in range(2)]
    optimizer, plans = keras.optimizers.SGD(), []

    @tf.function
    def step(x: Any) -> None:
        iv = tf.matmul(watched(tf.nn.relu(tf.matmul(x, kernels[0]))), kernels[1])
        plans.append(splitop.plan(optimizer, iv, kernels))
        plans[-1].apply()

    step(tf.ones([4, 3]))
    assert len(plans[0].fused) == 2
    assert calls == [(4, 3)]


class TestWhatIsExecuted:
    @staticmethod
    def executed(session: Any, fetches: Any, feed: Any = None) -> collections.Counter[str]:
        """How often an op of each type ran."""
        metadata = tf1.RunMetadata()
        options = tf1.RunOptions(trace_level=tf1.RunOptions.FULL_TRACE)
        session.run(fetches, feed, options, metadata)
        nodes = [node for device in metadata.step_stats.dev_stats for node in device.node_stats]
        # A label reads "name = Type(inputs)"; TensorFlow's own rewriting makes _FusedMatMul.
        types = re.findall(
            r"= [\w>]*?(MatMul|DenseChain|Assert)\(",
            "\n".join(node.timeline_label for node in nodes),
        )
        return collections.Counter(types)

    def test_neither_the_replaced_products_nor_the_last_layer(
        self, part: Callable[..., Part]
    ) -> None:
        each = part("fused")
        feed = {each.x: np.ones([BATCH, 3]), each.seed: np.ones([BATCH, 2])}
        # x·low, for the activation; not h·top, which only the shape of iv would need.
        assert self.executed(each.session, each.step, feed) == {"MatMul": 1, "DenseChain": 1}

    def test_the_reference_has_all_of_them(self, part: Callable[..., Part]) -> None:
        each = part("reference")
        feed = {each.x: np.ones([BATCH, 3]), each.seed: np.ones([BATCH, 2])}
        assert self.executed(each.session, each.step, feed) == {"MatMul": 4, "Assert": 1}

    @pytest.mark.usefixtures("graph")
    def test_what_lies_below_a_chain_is_computed_from_its_output(self) -> None:
        h = tf.random.normal([4, 3])
        for layer in range(3):
            h = tf.matmul(tf.sin(h), tf1.get_variable(f"k{layer}", [3, 3]))
        optimizer = tf1.train.GradientDescentOptimizer(0.1)
        plan = splitop.plan(optimizer, h, tf1.trainable_variables(), tf.ones_like(h))
        assert [chain.input_gradient for chain in plan.chains] == [False, True, True]
        step = plan.apply()
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            assert self.executed(session, step) == {"MatMul": 2, "DenseChain": 3}


class TestBuffers:
    """A variable's memory stays where it is: no update makes TensorFlow copy it first."""

    @staticmethod
    def address(variable: Any) -> Any:
        return tf.numpy_function(lambda value: np.int64(value.ctypes.data), [variable], tf.int64)

    @pytest.mark.parametrize("loss", [True, False])
    def test_in_a_session(self, graph: Any, loss: bool) -> None:
        h = x = tf.random.normal([32, 64])
        for layer in range(3):
            h = tf.nn.relu(tf.matmul(h, tf1.get_variable(f"k{layer}", [64, 64])))
        variables = tf1.trainable_variables()
        iv, seed = (tf.reduce_sum(h * h), None) if loss else (h, tf.ones_like(x))
        plan = splitop.plan(tf1.train.GradientDescentOptimizer(1e-3), iv, variables, seed)
        assert len(plan.fused) == 3
        step, places = plan.apply(), [self.address(variable) for variable in variables]
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            session.run(step)
            before = session.run(places)
            for _ in range(10):
                session.run(step)
                assert session.run(places) == before

    def test_of_a_kernel_that_other_gradients_read(self, graph: Any) -> None:
        # dL/dh of the second product reads `shared`, beside the chain that trains it.
        shared = tf1.get_variable("shared", [64, 64])
        other = tf1.get_variable("other", [64])
        x = tf.random.normal([32, 64])
        iv = tf.matmul(x, shared) + tf.matmul(x * other, tf.stop_gradient(shared))
        plan = splitop.plan(
            tf1.train.GradientDescentOptimizer(1e-3), iv, [shared, other], tf.ones_like(x)
        )
        assert plan.updated.keys() == {"other:0"}
        step, place = plan.apply(), self.address(shared)
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            session.run(step)
            before = session.run(place)
            for _ in range(10):
                session.run(step)
                assert session.run(place) == before


@pytest.mark.usefixtures("graph")
class TestShapeOf:
    def shape(self, tensor: Any, feed: dict[Any, Any]) -> list[int]:
        with tf1.Session() as session:  # Nothing is initialized: no layer may run.
            return session.run(shape_of(tensor), feed).tolist()

    def test_a_dense_layer(self) -> None:
        x = tf1.placeholder(tf.float32, [None, 3])
        iv = tf.nn.tanh(tf.matmul(x, tf1.get_variable("k", [3, 2])) + tf1.get_variable("b", [2]))
        assert self.shape(iv, {x: np.ones([5, 3])}) == [5, 2]

    def test_a_sum_that_might_broadcast(self) -> None:
        x, y = (tf1.placeholder(tf.float32, [None, 1]) for _ in range(2))
        assert self.shape(x + y, {x: np.ones([1, 1]), y: np.ones([5, 1])}) == [5, 1]
        row = tf1.placeholder(tf.float32, [None])
        assert self.shape(x + row, {x: np.ones([4, 1]), row: np.ones([3])}) == [4, 3]

    def test_rows_that_are_looked_up(self) -> None:
        ids = tf1.placeholder(tf.int32, [None, 3])
        rows = tf.gather(tf.convert_to_tensor(tf1.get_variable("t", [9, 2])), ids)
        feed = {ids: np.zeros([5, 3])}
        assert self.shape(rows, feed) == [5, 3, 2]
        assert self.shape(tf.reshape(rows, [-1, 6]), feed) == [5, 6]
        assert self.shape(tf.reshape(rows, [3, -1, 2]), feed) == [3, 5, 2]
        assert self.shape(tf.reshape(rows, [tf.shape(rows)[0], 6]), feed) == [5, 6]
        assert self.shape(tf.reduce_mean(rows, 1), feed) == [5, 2]
        assert self.shape(tf.reduce_sum(rows, [1, -1]), feed) == [5]
        assert self.shape(tf.concat([rows, rows], 1), feed) == [5, 6, 2]

    def test_rows_that_are_put_together(self) -> None:
        """The first extent is then not that of the first input."""
        x = tf1.placeholder(tf.float32, [None, 3])
        feed = {x: np.ones([4, 3])}
        assert self.shape(tf.concat([x, x], 0), feed) == [8, 3]
        assert self.shape(tf.concat([x, x], -2), feed) == [8, 3]
        assert self.shape(tf.reduce_sum(x[..., None], 0), feed) == [3, 1]
        assert self.shape(tf.reduce_sum(x, -2, keepdims=True), feed) == [1, 3]
        assert self.shape(tf.gather(x, [1, 2], axis=1), feed) == [4, 2]

    def test_a_transposed_product(self) -> None:
        x = tf1.placeholder(tf.float32, [3, None])
        iv = tf.matmul(x, tf.ones([3, 2]), transpose_a=True)
        assert self.shape(iv, {x: np.ones([3, 5])}) == [5, 2]
