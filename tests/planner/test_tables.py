"""Embedding tables (pitfall 19): how lookups are recognised; that they train as the reference."""

from __future__ import annotations

import collections
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.op.buffers import address, read
from tests.optimizers.test_numerics import KERAS_OPTIMIZERS, TF1_OPTIMIZERS
from tests.planner.lookups import IDS, LOOKUPS, ROWS, WIDTH, Lookup, table
from tests.planner.models import DTYPE, Weights, dense
from tests.planner.steps import FLAVOURS, assert_same_values, run_steps
from tests.planner.training import kernels_of, plain_names

tf1 = tf.compat.v1

STEPS = 5
BATCHES = [np.roll(IDS, step, axis=1) for step in range(STEPS)]
DISTINCT = [(np.arange(IDS.size).reshape(-1, 6).T + step) % ROWS for step in range(STEPS)]
OPTIMIZERS: dict[str, dict[str, Callable[[], Any]]] = {
    flavour: {name: lambda make=make: make(0.05) for name, make in optimizers.items()}
    for flavour, optimizers in (("tf1", TF1_OPTIMIZERS), ("keras", KERAS_OPTIMIZERS))
}


def assert_tables_as_planned(plan: splitop.Plan, lookup: Lookup) -> None:
    planned = {each.table.removesuffix(":0"): each.combiner for each in plan.tables}
    assert planned == lookup.tables
    assert plan.declined == {}


def assert_as_planned(plan: splitop.Plan, lookup: Lookup) -> None:
    assert_tables_as_planned(plan, lookup)
    assert kernels_of(plan) == set(lookup.chains)
    reasons = plain_names(plan.updated)
    assert reasons.keys() == lookup.updated.keys()
    for variable, words in lookup.updated.items():
        assert words in reasons[variable]


@pytest.mark.parametrize("static", [False, True], ids=["open", "static"])
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", LOOKUPS)
def test_every_lookup(name: str, flavour: str, static: bool) -> None:
    lookup, optimizer = LOOKUPS[name], OPTIMIZERS[flavour]["adam"]
    fused, reference = (
        run_steps(flavour, lookup.build, optimizer, BATCHES, static=static, backend=backend)
        for backend in ("fused", "reference")
    )
    assert_as_planned(fused.plan, lookup)
    assert fused.fused_ops["TableUpdate"] == bool(lookup.tables)
    assert_same_values(fused, reference)


# With ids that are repeated, they take each slice by itself in a way that no fused step has.
ONE_BY_ONE = {"tf1": (), "keras": ("adadelta", "adamax")}
CASES = [(flavour, name) for flavour in FLAVOURS for name in OPTIMIZERS[flavour]]


@pytest.mark.parametrize(("flavour", "name"), CASES)
class TestOptimizers:
    def check(self, flavour: str, name: str, lookup: Lookup, repeated: bool = True) -> splitop.Plan:
        batches = BATCHES if repeated else DISTINCT
        fused, reference = (
            run_steps(flavour, lookup.build, OPTIMIZERS[flavour][name], batches, backend=backend)
            for backend in ("auto", "reference")
        )
        assert_same_values(fused, reference)
        return fused.plan

    def test_of_slices(self, flavour: str, name: str) -> None:
        # Of a row's slices, centered RMSprop takes the squares and subtracts the square of the
        # sum: Keras needs ids that are not repeated, lest it takes the root of less than 0.
        repeated = "centered" not in name
        plan = self.check(flavour, name, LOOKUPS["several tables"], repeated)
        tables = set(LOOKUPS["several tables"].tables)
        if name in ONE_BY_ONE[flavour]:
            assert set(plain_names(plan.declined)) == tables
            for reason in plan.declined.values():
                assert f"looked up twice one by one: the rule {name} has no fused step" in reason
        else:
            assert {each.table.removesuffix(":0") for each in plan.tables} == tables

    def test_of_slices_that_tensorflow_has_added_up(self, flavour: str, name: str) -> None:
        plan = self.check(flavour, name, LOOKUPS["sparse, sqrtn"])
        assert_tables_as_planned(plan, LOOKUPS["sparse, sqrtn"])


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", ["sgd", "momentum", "adagrad", "adam"])
def test_an_id_that_is_repeated_in_a_bag(flavour: str, name: str) -> None:
    """A bag's gradient counts once for every time that it holds the id, squares too."""
    for lookup in (LOOKUPS["padded, mean"], LOOKUPS["ragged, sum"]):
        fused, reference = (
            run_steps(flavour, lookup.build, OPTIMIZERS[flavour][name], BATCHES, backend=backend)
            for backend in ("fused", "reference")
        )
        assert_same_values(fused, reference)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_ids_of_any_dtype(dtype: str, flavour: str) -> None:
    def build(w: Weights, ids: Any) -> Any:
        rows = w.layer("emb", keras.layers.Embedding, ids, input_dim=ROWS, output_dim=WIDTH)
        return dense(w, "top", tf.reduce_sum(rows, 1), 5)

    batches = [batch.astype(dtype) for batch in BATCHES]
    fused, reference = (
        run_steps(flavour, build, OPTIMIZERS[flavour]["momentum"], batches, backend=backend)
        for backend in ("fused", "reference")
    )
    assert len(fused.plan.tables) == 1
    assert_same_values(fused, reference)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    "name", ["gather", "keras, average", "padded, sum", "padded, mean", "ragged, sum"]
)
def test_bags_without_ids(name: str, flavour: str) -> None:
    """All bags of the second batch are empty; those that are padded have no room for an id."""
    lookup = LOOKUPS[name]

    def build(w: Weights, ids: Any) -> Any:
        length = tf.reduce_max(tf.reduce_sum(tf.cast(ids > 0, tf.int32), 1))
        ids = ids if "ragged" in name or name == "gather" else ids[:, :length]
        return lookup.build(w, ids)

    batches = [IDS, np.zeros_like(IDS), IDS]
    fused, reference = (
        run_steps(flavour, build, OPTIMIZERS[flavour]["sgd"], batches, backend=backend)
        for backend in ("fused", "reference")
    )
    assert len(fused.plan.tables) == 1
    for (variable, value), (_, expected) in zip(fused.values, reference.values, strict=True):
        # The mean of nothing is no number, on either path, unless no row has that gradient.
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-11, err_msg=variable)


def test_the_plan_is_a_table() -> None:
    with tf.Graph().as_default():
        w, ids = Weights(), tf1.placeholder(tf.int64, [None, 3])
        sums = tf.reduce_sum(tf.gather(table(w), ids), 1)
        sparse = tf.sparse.from_dense(ids)
        bags = tf.nn.embedding_lookup_sparse(w("bags", ROWS, 2), sparse, None, combiner="sqrtn")
        ivs = [sums, bags, tf.gather(w("own", ROWS), ids[:, 0])]
        for optimizer, rows in (
            (tf1.train.AdamOptimizer(), "all rows"),
            (tf1.train.AdagradOptimizer(0.1), "the rows looked up"),
        ):
            plan = splitop.plan(optimizer, ivs, w.variables)
            assert str(plan).split("\n")[2:] == [
                f"table:0   10×4   fused  table, {rows}, one gradient a bag",
                f"bags:0    10×2   fused  table, {rows}, one gradient a bag",
                f"own:0     10     fused  table, {rows}",
                "3 of 3 variables are fused",
            ]


def test_on_a_gpu_the_ids_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step would wait for the answer, which TensorFlow's own kernels do not give either."""
    monkeypatch.setattr("splitop._src.library.cuda_reason", lambda: None)
    for device, checks in (("/CPU:0", 1), ("/GPU:0", 0)):
        with tf.Graph().as_default() as graph, tf.device(device):
            w = Weights()
            iv = dense(w, "top", tf.gather(table(w), tf1.placeholder(tf.int64, [None])), 5, "relu")
            plan = splitop.plan(tf1.train.AdamOptimizer(), iv, w.variables)
            plan.apply()
        assert [each.table for each in plan.tables] == ["table:0"]
        asserted = [op.inputs[1] for op in graph.get_operations() if op.type == "Assert"]
        messages = [tf.get_static_value(message) for message in asserted]
        assert sum(b"the ids of table:0" in message.item() for message in messages) == checks


class TestIdsOutOfRange:
    """An error by TensorFlow, or by the op if that is the first to look at the ids."""

    @pytest.mark.parametrize("bad", [-1, ROWS])
    @pytest.mark.parametrize("flavour", FLAVOURS)
    @pytest.mark.parametrize("name", ["deep", "the vector itself"])
    def test_nothing_is_written(self, name: str, flavour: str, bad: int) -> None:
        ids = IDS.copy()
        ids[2, 1] = bad
        run = self.in_a_session if flavour == "tf1" else self.in_a_function
        before, after = run(LOOKUPS[name], ids, r"in \[0, 10\)")
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(old, new)

    def test_is_named_by_the_op(self) -> None:
        message = r"SplitError: the ids of \\?\"table:0\\?\" must be in \[0, 10\)\. Received: 10 at"
        self.in_a_session(LOOKUPS["the vector itself"], np.full_like(IDS, ROWS), message)

    @pytest.mark.parametrize("path", ["fused", "auto"])
    def test_nor_is_another_variable_of_the_step(self, path: str) -> None:
        """With static shapes and SGD nothing needs the lookup itself."""
        for _ in range(5):
            with tf.Graph().as_default(), tf1.Session() as session:
                rows, k = tf1.get_variable("table", [ROWS, 3]), tf1.get_variable("k", [4, 2])
                gain = tf1.get_variable("gain", [2], constraint=tf.abs if path == "auto" else None)
                ids = tf1.placeholder(tf.int32, [5])
                ivs = [tf.gather(rows, ids), tf.matmul(tf.ones([6, 4]), k), gain * 2.0]
                optimizer = tf1.train.GradientDescentOptimizer(0.1)
                step = splitop.minimize(optimizer, ivs, [rows, k, gain], backend=path)
                session.run(tf1.global_variables_initializer())
                before = session.run([rows, k, gain])
                with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[0, 10\)"):
                    session.run(step, {ids: [1, 2, ROWS, 3, 4]})
                after = session.run([rows, k, gain])
            for old, new in zip(before, after, strict=True):
                np.testing.assert_array_equal(old, new)

    def in_a_session(self, lookup: Lookup, ids: np.ndarray, message: str) -> Any:
        with tf.Graph().as_default(), tf1.Session() as session:
            w, x = Weights(), tf1.placeholder(tf.int64, ids.shape)
            iv = lookup.build(w, x)
            optimizer = tf1.train.AdamOptimizer()
            step = splitop.minimize(optimizer, iv, w.variables, backend="fused")
            session.run(tf1.global_variables_initializer())
            before = session.run(tf1.global_variables())
            with pytest.raises(tf.errors.InvalidArgumentError, match=message):
                session.run(step, {x: ids})
            return before, session.run(tf1.global_variables())

    def in_a_function(self, lookup: Lookup, ids: np.ndarray, message: str) -> Any:
        w = Weights()
        lookup.build(w, tf.constant(IDS))
        optimizer = keras.optimizers.Adam()
        optimizer.build(w.variables)

        @tf.function(autograph=False)
        def step(x: Any) -> None:
            splitop.minimize(optimizer, lookup.build(w, x), w.variables, backend="fused")

        variables = [*w.variables, *optimizer.variables]
        before = [np.asarray(variable).copy() for variable in variables]
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            step(tf.constant(ids))
        return before, variables


class TestGradientsThatOnlyLookAlike:
    """They train as on the reference path, from one gradient an id."""

    def train(self, build: Any, path: str) -> np.ndarray:
        rows, optimizer = tf.Variable(np.zeros((4, 1))), keras.optimizers.SGD(1.0)
        optimizer.build([rows])

        @tf.function(autograph=False)
        def step() -> None:
            splitop.minimize(optimizer, build(rows), [rows], backend=path)

        step()
        return rows.numpy()

    def check(self, build: Any) -> None:
        expected = self.train(build, "reference")
        assert np.any(expected != 0)
        np.testing.assert_array_equal(self.train(build, "auto"), expected)

    def test_bags_that_are_repeated_as_a_whole(self) -> None:
        @tf.custom_gradient
        def first_bags(looked_up: Any) -> Any:
            bags = tf.constant([[[1.0]], [[10.0]]], tf.float64)
            return tf.reduce_sum(looked_up, 1)[:2], lambda _: tf.tile(bags, [2, 2, 1])

        self.check(lambda rows: first_bags(tf.gather(rows, [[0, 0], [1, 1], [2, 2], [3, 3]])))

    def test_a_lookup_of_the_positions(self) -> None:
        def build(rows: Any) -> Any:
            _, positions = tf.unique(tf.constant([3, 2, 3]))
            return tf.sparse.segment_sum(tf.gather(rows, positions), positions, [0, 0, 1])

        self.check(build)


class TestBuffers:
    """No step copies a table, however it is read: that takes longer than the step itself."""

    SHAPE = (16384, 8)  # more than the scratch of any op
    BYTES = SHAPE[0] * SHAPE[1] * 8

    def read(self, how: str, w: Weights, ids: Any) -> Any:
        variable = w("large", *self.SHAPE)
        if how == "keras":
            return tf.gather(tf.convert_to_tensor(variable), ids[:, 0])
        if how == "sparse":
            sparse = tf.sparse.from_dense(ids)
            return tf.nn.embedding_lookup_sparse(variable, sparse, None, combiner="mean")
        rows = tf.gather(variable, ids[:, 0])
        return rows * tf.gather(variable, ids[:, 1]) if how == "twice" else rows

    def iv(self, how: str, w: Weights, ids: Any) -> Any:
        return dense(w, "top", self.read(how, w, ids), 5, "relu")

    @pytest.mark.parametrize("how", ["gather", "keras", "sparse", "twice"])
    @pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
    def test_no_op_has_memory_for_one(self, optimizer: str, how: str) -> None:
        with tf.Graph().as_default(), tf1.Session() as session:
            w, ids = Weights(), tf1.placeholder(tf.int64, [None, 3])
            iv = self.iv(how, w, ids)
            loss = tf.reduce_sum(iv * iv)
            make = OPTIMIZERS["tf1"][optimizer]
            step = splitop.minimize(make(), loss, w.variables, backend="fused")
            session.run(tf1.global_variables_initializer())
            for _ in range(3):
                metadata = tf1.RunMetadata()
                options = tf1.RunOptions(trace_level=tf1.RunOptions.FULL_TRACE)
                session.run([step, loss], {ids: IDS}, options, metadata)
        nodes = [node for device in metadata.step_stats.dev_stats for node in device.node_stats]
        assert any("table_update" in node.node_name for node in nodes)
        for node in nodes:
            used = sum(memory.peak_bytes for memory in node.memory)
            assert max(used, node.memory_stats.temp_memory_size) < self.BYTES, node.node_name

    @pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
    def test_nor_does_a_function_move_one(self, optimizer: str) -> None:
        w = Weights()
        self.iv("keras", w, tf.constant(IDS))
        keras_optimizer = OPTIMIZERS["keras"][optimizer]()
        keras_optimizer.build(w.variables)

        @tf.function(autograph=False)
        def step(ids: Any) -> Any:
            iv = self.iv("keras", w, ids)
            loss = tf.reduce_sum(iv * iv)
            splitop.minimize(keras_optimizer, loss, w.variables, backend="fused")
            return loss

        slots = [variable.value for variable in keras_optimizer.variables]
        variables = [v for v in (*w.variables, *slots) if v.shape.rank]
        step(tf.constant(IDS))
        places = [address(read(variable)) for variable in variables]
        for _ in range(10):
            step(tf.constant(IDS))
            assert [address(read(variable)) for variable in variables] == places


_SEGMENT_GRADIENTS = [f"SparseSegment{name}Grad" for name in ("Sum", "Mean", "SqrtN")]


class TestWhatIsExecuted:
    @staticmethod
    def executed(session: Any, fetches: Any, feed: Any) -> collections.Counter[str]:
        """How often an op of each type ran."""
        metadata = tf1.RunMetadata()
        options = tf1.RunOptions(trace_level=tf1.RunOptions.FULL_TRACE)
        session.run(fetches, feed, options, metadata)
        nodes = [node for device in metadata.step_stats.dev_stats for node in device.node_stats]
        types = re.findall(
            r"= [\w>]*?(MatMul|DenseChain|TableUpdate|Gather|BroadcastTo|SparseSegment\w+Grad)\(",
            "\n".join(node.timeline_label for node in nodes),
        )
        return collections.Counter(types)

    def of_a_step(self, name: str, backend: str = "fused") -> collections.Counter[str]:
        with tf.Graph().as_default(), tf1.Session() as session:
            w, ids = Weights(), tf1.placeholder(tf.int64, [None, 3])
            iv = LOOKUPS[name].build(w, ids)
            seed = tf1.placeholder(DTYPE, iv.shape)
            optimizer = OPTIMIZERS["tf1"]["sgd"]()
            step = splitop.minimize(optimizer, iv, w.variables, seed, backend=backend)
            session.run(tf1.global_variables_initializer())
            feed = {ids: IDS, seed: np.ones([len(IDS), iv.shape[-1]])}
            return self.executed(session, step, feed)

    def test_a_table_below_a_chain(self) -> None:
        # The products are those of the forward pass, for the activations.
        executed = self.of_a_step("deep")
        assert executed == {"Gather": 1, "MatMul": 2, "DenseChain": 1, "TableUpdate": 1}
        assert self.of_a_step("deep", "reference")["MatMul"] == 6

    @pytest.mark.parametrize("name", ["padded, sum", "padded, mean", "rows are matrices, sum"])
    def test_the_gradient_of_a_bag_is_not_repeated(self, name: str) -> None:
        executed = self.of_a_step(name)
        assert executed == {"Gather": 1, "MatMul": 1, "DenseChain": 1, "TableUpdate": 1}
        assert self.of_a_step(name, "reference")["BroadcastTo"] == 1

    @pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn"])
    def test_nor_is_that_of_a_sparse_bag(self, combiner: str) -> None:
        name = f"sparse, {combiner}"
        assert sum(self.of_a_step(name, "reference")[op] for op in _SEGMENT_GRADIENTS) == 1
        assert not any(self.of_a_step(name)[op] for op in _SEGMENT_GRADIENTS)
