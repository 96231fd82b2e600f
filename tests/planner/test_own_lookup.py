"""Which lookups an op of the step's own makes, and that this gives the same step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.planner.models import DTYPE, Weights, dense
from tests.planner.walks import all_before, of_type

tf1 = tf.compat.v1

BATCH, LENGTH, ROWS, WIDTH, UNITS = 6, 3, 11, 4, 5
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
}
Build = Callable[[Weights, Any], Any]


@pytest.fixture(autouse=True)
def _on_the_cpu():
    """On GPUs TensorFlow looks rows up."""
    with tf.device("/CPU:0"):
        yield


def table(w: Weights, name: str = "table") -> tf.Variable:
    return w(name, ROWS, WIDTH)


def top(w: Weights, rows: Any, width: int = LENGTH * WIDTH) -> Any:
    return dense(w, "top", tf.reshape(rows, [-1, width]), UNITS, "relu")


def rows_of(w: Weights, ids: Any, name: str = "table") -> Any:
    """As Keras looks rows up."""
    return tf.gather(tf.convert_to_tensor(table(w, name)), ids)


def value(w: Weights, ids: Any) -> Any:
    return top(w, rows_of(w, ids))


def keras_layers(w: Weights, ids: Any) -> Any:
    rows = w.layer("emb", keras.layers.Embedding, ids, input_dim=ROWS, output_dim=WIDTH)
    return top(w, w.layer("flat", keras.layers.Flatten, rows))


def mean(w: Weights, ids: Any) -> Any:
    return top(w, tf.reduce_mean(rows_of(w, ids), 1), WIDTH)


def two_tables(w: Weights, ids: Any) -> Any:
    x = tf.concat(
        [
            tf.cast(ids, DTYPE),
            rows_of(w, ids[:, 0]),
            rows_of(w, ids[:, 1], "other"),
        ],
        1,
    )
    return top(w, x, LENGTH + 2 * WIDTH)


def twice(w: Weights, ids: Any) -> Any:
    x = rows_of(w, ids[:, 0]) - rows_of(w, ids[:, 1])
    return top(w, x, WIDTH)


def of_its_own_shape(w: Weights, ids: Any) -> Any:
    rows = rows_of(w, ids)
    shape = tf.shape(rows)
    return top(w, tf.reshape(rows, [shape[0], shape[1] * shape[2]]))


def two_layers(w: Weights, ids: Any) -> Any:
    return dense(w, "high", value(w, ids), UNITS, "tanh")


LOOKED_UP: dict[str, Build] = {
    build.__name__: build
    for build in (
        value, keras_layers, mean, two_tables, twice, of_its_own_shape, two_layers,
    )
}  # fmt: skip


def read_elsewhere(w: Weights, ids: Any) -> Any:
    """The rows are a part of IV, too."""
    rows = rows_of(w, ids)
    return top(w, rows) + tf.reduce_sum(rows**2, [1, 2])[:, None]


def random_between(w: Weights, ids: Any) -> Any:
    return top(w, rows_of(w, ids) * tf.random.uniform([LENGTH, WIDTH], dtype=DTYPE))


def along_another_axis(w: Weights, ids: Any) -> Any:
    columns = tf.gather(tf.convert_to_tensor(table(w)), tf.range(WIDTH), axis=1)
    return top(w, tf.gather(columns, ids))


def of_the_variable(w: Weights, ids: Any) -> Any:
    """ResourceGather, which a tf.function runs anyway."""
    return top(w, tf.gather(table(w), ids))


def short_ids(w: Weights, ids: Any) -> Any:
    return top(w, tf.gather(tf.convert_to_tensor(table(w)), tf.cast(ids, tf.int16)))


def in_two_chains(w: Weights, ids: Any) -> Any:
    rows = tf.reshape(rows_of(w, ids), [-1, LENGTH * WIDTH])
    return top(w, rows) + dense(w, "other", rows, UNITS, "tanh")


TENSORFLOWS: dict[str, Build] = {
    build.__name__: build
    for build in (read_elsewhere, along_another_axis, of_the_variable, short_ids)
}


@dataclasses.dataclass
class Step:
    """A tf.function(ids, seed) that trains a second part, and its plan."""

    build: Build
    optimizer: Any
    backend: str = "auto"
    static: bool = False
    jit: bool = False
    between: Callable[[Weights], None] = lambda w: None
    returns: Callable[[Any], Any] = lambda iv: None
    plan: splitop.Plan = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        keras.utils.set_random_seed(0)
        self.weights = Weights()
        self.build(self.weights, batch()[0])
        variables = self.weights.variables
        self.optimizer.build(variables)
        rows = BATCH if self.static else None
        signature = [tf.TensorSpec([rows, LENGTH], tf.int32), tf.TensorSpec([rows, UNITS], DTYPE)]

        @tf.function(autograph=False, input_signature=signature, jit_compile=self.jit)
        def run(ids: Any, seed: Any) -> Any:
            iv = self.build(self.weights, ids)
            result = self.returns(iv)
            self.plan = splitop.plan(self.optimizer, iv, variables, seed, backend=self.backend)
            self.between(self.weights)
            self.plan.apply()
            return result

        self.run = run.get_concrete_function()

    @property
    def forward(self) -> list[bool]:
        return [planned.forward for planned in self.plan.tables]

    def take(self, count: int = 3) -> list[np.ndarray]:
        for number in range(count):
            self.run(*batch(number))
        return self.state()

    @property
    def variables(self) -> list[Any]:
        return [*self.weights.variables, *self.optimizer.variables]

    def state(self) -> list[np.ndarray]:
        return [np.asarray(variable) for variable in self.variables]

    def needed(self) -> set[str]:
        """The types of the fused ops, and of all that they need but for integers."""
        return {
            op.type
            for op in all_before(*of_type(self.run.graph, "Splitop>"))
            if op.type.startswith("Splitop>") or any(t.dtype.is_floating for t in op.outputs)
        }


def batch(number: int = 0) -> tuple[tf.Tensor, tf.Tensor]:
    """Ids, of which some are there several times, and a seed."""
    random = np.random.default_rng(number)
    ids = random.integers(0, ROWS, size=(BATCH, LENGTH))
    return tf.constant(ids, tf.int32), tf.constant(random.normal(size=(BATCH, UNITS)), DTYPE)


def assert_same_step(build: Build, optimizer: str = "adam", **options: Any) -> Step:
    fused = Step(build, OPTIMIZERS[optimizer](), **options)
    expected = Step(build, OPTIMIZERS[optimizer](), backend="reference", **options)
    for received, reference in zip(fused.take(), expected.take(), strict=True):
        np.testing.assert_allclose(received, reference, 1e-9, 1e-12)
    return fused


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("build", LOOKED_UP)
def test_lookups_below_a_chain(build: str, static: bool) -> None:
    step = assert_same_step(LOOKED_UP[build], static=static)
    if not static and build == "twice":
        # What checks the seed asks for the shape of the difference.
        assert step.forward == [False]
        return
    assert step.forward == [True] * len(step.plan.tables)
    assert [chain.forward for chain in step.plan.chains] == [True]
    assert "Splitop>TableLookup" in step.needed()
    assert not step.needed() & {"GatherV2", "ResourceGather", "MatMul"}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_kind_of_update(optimizer: str) -> None:
    assert assert_same_step(keras_layers, optimizer).forward == [True]


@pytest.mark.parametrize("build", TENSORFLOWS)
def test_other_lookups_are_tensorflows(build: str) -> None:
    step = assert_same_step(TENSORFLOWS[build])
    assert not any(step.forward)
    assert "Splitop>TableLookup" not in step.needed()


def test_rows_that_two_chains_read() -> None:
    assert_same_step(in_two_chains)


def test_random_operations_run_once() -> None:
    assert Step(random_between, OPTIMIZERS["sgd"]()).forward == [False]


def test_a_table_that_the_optimizer_updates_itself() -> None:
    """Its place need not be one where splitop's ops run."""

    def build(w: Weights, ids: Any) -> Any:
        table(w)._constraint = tf.nn.relu
        return value(w, ids)

    step = assert_same_step(build, "sgd")
    assert "table:0" in step.plan.declined
    assert "Splitop>TableLookup" not in step.needed()


def test_ids_that_are_made_of_other_rows() -> None:
    def build(w: Weights, ids: Any) -> Any:
        rows = rows_of(w, ids[:, 0])
        more = tf.cast(tf.abs(tf.stop_gradient(rows[:, 0])) * 7, tf.int32) % ROWS
        others = tf.stop_gradient(rows_of(w, more, "other"))
        penalty = tf.reduce_sum(table(w, "other") ** 2)
        return top(w, tf.concat([rows, others], 1), 2 * WIDTH) + penalty

    for static in (True, False):
        assert_same_step(build, static=static)


def test_an_assertion_runs_in_any_case() -> None:
    def build(w: Weights, ids: Any) -> Any:
        rows = rows_of(w, ids)
        tf.debugging.assert_less(rows, tf.constant(100, DTYPE))
        return top(w, rows)

    assert assert_same_step(build, static=True).forward == [False]


def test_a_tf1_step_is_written_after_what_else_reads_the_table() -> None:
    """The loss may be fetched in the same run."""
    with tf.Graph().as_default(), tf.device("/CPU:0"):
        ids = tf1.placeholder(tf.int32, [BATCH, LENGTH])
        with tf1.variable_scope("second_part"):
            rows = tf.gather(tf.convert_to_tensor(tf1.get_variable("t", [ROWS, WIDTH])), ids)
            kernel = tf1.get_variable("k", [LENGTH * WIDTH, UNITS])
            iv = tf.nn.relu(tf.matmul(tf.reshape(rows, [-1, LENGTH * WIDTH]), kernel))
        with tf1.variable_scope("first_part"):
            loss = tf.reduce_mean((iv * tf1.get_variable("w", [UNITS])) ** 2)
        make = tf1.train.GradientDescentOptimizer
        splitop.split_minimize(loss, iv, first_optimizer=make(0.1), second_optimizer=make(0.1))
        graph = tf1.get_default_graph()
        lookups, writes = (of_type(graph, f"Splitop>Table{kind}") for kind in ("Lookup", "Update"))
        assert lookups
        reads = {op for op in lookups[0].inputs[0].consumers() if op.type == "ReadVariableOp"}
        for write in writes:
            before = all_before(write)
            assert before.issuperset(read for read in reads if read.outputs[0].consumers())
        assert any(not all_before(write).isdisjoint(lookups) for write in writes)


def test_the_plan_says_so() -> None:
    text = str(Step(value, OPTIMIZERS["sgd"]()).plan)
    assert "table, the rows looked up, both passes" in text


def test_a_write_between_plan_and_apply() -> None:
    """TensorFlow's forward pass has read the rows before it, and so has the step."""

    def write(w: Weights) -> None:
        table(w).assign_add(tf.ones([ROWS, WIDTH], DTYPE))

    step = assert_same_step(value, "sgd", static=True, between=write)
    assert "Splitop>TableLookup" not in step.needed()
    assert "MatMul" not in step.needed()  # The chain's own variables were not written.


def test_a_write_before_the_step() -> None:
    def build(w: Weights, ids: Any) -> Any:
        result = value(w, ids)
        table(w).assign_add(tf.ones([ROWS, WIDTH], DTYPE))
        return result

    step = assert_same_step(build, "sgd")
    assert step.forward == [False]


def test_iv_that_is_returned_is_that_of_before_the_step() -> None:
    step = Step(value, OPTIMIZERS["sgd"](), returns=lambda iv: iv)
    assert step.forward == [True]
    ids, seed = batch()
    for _ in range(3):
        expected = value(step.weights, ids)
        np.testing.assert_allclose(step.run(ids, seed), expected, 1e-12)


@pytest.mark.parametrize("bad", [-1, ROWS])
@pytest.mark.parametrize("build", ["value", "two_layers"])
@pytest.mark.parametrize("jit", [False, True])
def test_ids_out_of_range_write_nothing(build: str, bad: int, jit: bool) -> None:
    step = Step(LOOKED_UP[build], OPTIMIZERS["adam"](), static=True, jit=jit)
    step.take(1)
    before = step.state()
    ids, seed = batch()
    with pytest.raises(tf.errors.InvalidArgumentError, match="splitop: SplitError: the ids of"):
        step.run(tf.tensor_scatter_nd_update(ids, [[2, 1]], [bad]), seed)
    for variable, expected in zip(step.variables, before, strict=True):
        if jit and "iteration" in variable.name:
            continue  # XLA takes back no counter.
        np.testing.assert_array_equal(np.asarray(variable), expected)


def test_ids_are_checked_once() -> None:
    """By the lookup's op; ids of several lookups of a table are put together, and not compared."""
    assert not of_type(Step(value, OPTIMIZERS["adam"](), static=True).run.graph, "Assert")
    assert of_type(Step(twice, OPTIMIZERS["adam"](), static=True).run.graph, "Assert")


@pytest.mark.parametrize("build", LOOKED_UP)
def test_inside_xla(build: str) -> None:
    step = assert_same_step(LOOKED_UP[build], static=True, jit=True)
    assert step.forward == [True] * len(step.plan.tables)
