"""What is in the graph of a step, and in its memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src.graph import reach
from tests.micro_batches.models import BATCH, CASES, contrastive
from tests.micro_batches.training import MICRO, Trainer
from tests.op.buffers import addresses

tf1 = tf.compat.v1


def operations(graph: Any) -> Iterator[Any]:
    """The operations of a graph, and of the functions that its calls and loops run."""
    pending, seen = [graph], set()
    while pending:
        graph = pending.pop()
        for op in graph.get_operations():
            yield op
            for value in op.node_def.attr.values():
                if value.HasField("func") and value.func.name not in seen:
                    seen.add(value.func.name)
                    pending.append(graph._get_function(value.func.name).graph)


def test_only_intermediate_vectors_leave_the_loops() -> None:
    """The sizes of all that there is of the whole batch, by the loops' loop variables.

    Nothing but these outlives an iteration, so that no activation is kept.
    """
    trainer = Trainer(CASES["conv"], MICRO)
    trainer.step(CASES["conv"].inputs(np.random.default_rng(0), BATCH))
    loops = [op for op in trainer.graph.get_operations() if op.type == "While"]
    assert len(loops) == 2
    weights = [list(v.shape) for v in trainer.model.trainable_variables]
    forward, backward = (
        [list(t.shape) for t in loop.outputs if t.dtype.is_floating and t.shape.rank != 0]
        for loop in loops
    )
    # The batch itself, which is handed through; the IVs are in a list of tensors.
    assert forward == [[BATCH, 6, 5, 2]]
    lists = [t for t in loops[0].outputs if t.dtype == tf.variant]
    assert len(lists) == 1
    assert sorted(backward) == sorted([*weights, [BATCH, 6, 5, 2], [BATCH, 3]])
    assert not [t for t in loops[1].outputs if t.dtype == tf.variant]
    # TensorFlow's own gradient of a loop would push all that it needs on lists.
    types = {op.type for op in operations(trainer.graph)}
    assert "TensorListPushBack" not in types
    assert "TensorListPopBack" not in types


def test_no_variable_is_copied() -> None:
    """The update is made in the variables' own memory."""
    trainer = Trainer(CASES["embeddings"], MICRO, "float32")
    random = np.random.default_rng(0)
    trainer.step(CASES["embeddings"].inputs(random, BATCH))
    variables = {
        f"{number} {variable.name}": variable.value
        for number, variable in enumerate(
            [*trainer.model.trainable_variables, *trainer.optimizer.variables]
        )
        if variable.shape.rank
    }
    before = addresses(variables)
    values = {name: variable.numpy() for name, variable in variables.items()}
    for _ in range(3):
        trainer.step(CASES["embeddings"].inputs(random, BATCH))
    assert addresses(variables) == before
    for name, variable in variables.items():
        assert (variable.numpy() != values[name]).any(), name


def test_the_plan_tells() -> None:
    trainer = Trainer(CASES["embeddings"], MICRO)
    trainer.step(CASES["embeddings"].inputs(np.random.default_rng(0), BATCH))
    assert "loop" in next(iter(trainer.plan.updated.values()))
    assert "4 of 4" not in str(trainer.plan)
    assert "6 of 6 variables are fused" in str(trainer.plan)
    types = [op.type for op in trainer.graph.get_operations()]
    assert types.count("Splitop>MultiTensorUpdate") == 1
    assert types.count("Splitop>TableUpdate") == 1


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_a_graph_of_tensorflow_1(backend: str, size: int) -> None:
    random = np.random.default_rng(0)
    batches = [random.normal(size=(7, 5)) for _ in range(4)]
    start = random.normal(size=(5, 4)), random.normal(size=4), random.normal(size=(6, 4))

    def train(micro: bool) -> list[np.ndarray]:
        with tf.Graph().as_default(), tf1.Session() as session:
            x = tf1.placeholder(tf.float64, [None, 5])
            variables = [
                tf1.get_variable(name, initializer=value)
                for name, value in zip("wbt", start, strict=True)
            ]
            w, b, table = variables
            calls = tf1.get_variable(
                "calls", initializer=np.float64(0), trainable=False, use_resource=True
            )

            def second_part(x: Any) -> Any:
                ids = tf.cast(tf.abs(x[:, 0]) * 3, tf.int32) % 6
                with tf.control_dependencies([calls.assign_add(1.0)]):
                    return tf.tanh(tf.matmul(x, w) + b) + tf.gather(table, ids)

            optimizer = tf1.train.AdamOptimizer(0.1)
            if micro:
                chunks = splitop.MicroBatches(second_part, x, size=size, state=[calls])
                loss = contrastive(chunks.iv)
                (seed,) = tf.gradients(loss, chunks.iv)
                step = chunks.minimize(optimizer, variables, seed, backend=backend)
            else:
                iv = second_part(x)
                loss = contrastive(iv)
                (seed,) = tf.gradients(loss, iv)
                step = splitop.minimize(optimizer, iv, variables, seed, backend="reference")
            session.run(tf1.global_variables_initializer())
            losses = [session.run([step, loss], {x: batch})[1] for batch in batches]
            assert session.run(calls) == (4 * -(-7 // size) if micro else 4)
            slots = [optimizer.get_slot(variable, name) for variable in variables for name in "mv"]
            return [np.array(losses), *session.run(variables + slots)]

    for actual, expected in zip(train(True), train(False), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-11)


def test_a_keras_model_with_losses_of_its_own() -> None:
    """Those of the weights count once, those of the rows are added up."""

    def build() -> tuple[keras.Model, Any]:
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((7,)),
                keras.layers.Dense(
                    6, "tanh", dtype="float64", kernel_regularizer="l2", bias_regularizer="l1"
                ),
                keras.layers.ActivityRegularization(l2=0.1, dtype="float64"),
                keras.layers.Dense(
                    5, dtype="float64", kernel_regularizer="l2", activity_regularizer="l2"
                ),
            ]
        )
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
        return model, optimizer

    x = tf.constant(np.random.default_rng(0).normal(size=(11, 7)))

    def in_chunks(scale: float) -> list[np.ndarray]:
        model, optimizer = build()
        weights = [w for w in model.trainable_weights if w.regularizer is not None]

        def second_part(x: Any) -> Any:
            iv = model(x, training=True)
            return iv, tf.add_n(model.losses[: len(model.losses) - len(weights)])

        @tf.function
        def step() -> Any:
            chunks = splitop.MicroBatches(second_part, x, size=4, penalty="mean")
            regularization = scale * tf.add_n([w.regularizer(w) for w in weights])
            loss = scale * (contrastive(chunks.iv) + chunks.penalty)
            seed, penalty_seed = tf.gradients(loss, [chunks.iv, chunks.penalty])
            chunks.minimize(
                optimizer,
                model.trainable_variables,
                seed,
                penalty_seed=penalty_seed,
                regularization=regularization,
            )
            return loss + regularization

        losses = [step() for _ in range(3)]
        return [np.array(losses), *(np.asarray(v) for v in model.variables)]

    def whole(scale: float) -> list[np.ndarray]:
        model, optimizer = build()

        @tf.function
        def step() -> Any:
            iv = model(x, training=True)
            loss = scale * (contrastive(iv) + tf.add_n(model.losses))
            variables = model.trainable_variables
            splitop.minimize(optimizer, loss, variables, backend="reference")
            return loss

        losses = [step() for _ in range(3)]
        return [np.array(losses), *(np.asarray(v) for v in model.variables)]

    for scale in (1.0, 0.5):
        for actual, expected in zip(in_chunks(scale), whole(scale), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-11)


def test_a_penalty_that_is_a_sum() -> None:
    w = tf.Variable(np.random.default_rng(0).normal(size=(5, 3)), name="w")
    start = w.numpy()
    x = np.random.default_rng(1).normal(size=(11, 5))
    optimizer = keras.optimizers.SGD(0.125)
    optimizer.build([w])

    def second_part(x: Any) -> Any:
        iv = tf.matmul(x, w)
        return iv, tf.reduce_sum(iv**2)

    @tf.function
    def step(x: Any) -> Any:
        chunks = splitop.MicroBatches(second_part, x, size=4, penalty="sum")
        chunks.minimize(optimizer, [w], tf.ones_like(chunks.iv))
        return chunks.penalty

    np.testing.assert_allclose(step(x), np.sum((x @ start) ** 2), rtol=1e-9)
    gradient = x.T @ (1 + 2 * x @ start)
    np.testing.assert_allclose(w, start - 0.125 * gradient, rtol=1e-9)


def lookup(kind: str, table: Any, inputs: Any) -> Any:
    """Rows of a table for each row of the batch."""
    if kind == "ragged":
        return tf.reduce_sum(tf.gather(table, inputs), 1)
    if kind == "sparse":
        return tf.nn.embedding_lookup_sparse(table, inputs, None, combiner="mean")
    if kind == "unique":
        distinct, positions = tf.unique(inputs[:, 0])
        return tf.gather(tf.gather(table, distinct), positions)
    return tf.reduce_sum(tf.gather(table, inputs), 1)


@pytest.mark.parametrize("regularized", [False, True])
@pytest.mark.parametrize("kind", ["ragged", "sparse", "unique", "open"])
def test_lookups(kind: str, regularized: bool) -> None:
    """Adam squares each slice: with unique ids, there must be one for a row of the whole batch."""
    random = np.random.default_rng(0)
    start = random.normal(size=(9, 3))
    ids = random.integers(0, 9, (11, 4))
    lengths = random.integers(1, 5, 11)
    inputs: Any = tf.constant(ids)
    if kind in ("ragged", "sparse"):
        inputs = tf.RaggedTensor.from_tensor(ids, lengths)
    if kind == "sparse":
        inputs = inputs.to_sparse()
    spec = tf.TensorSpec([None, None], tf.int64)
    if kind == "ragged":
        spec = tf.RaggedTensorSpec([None, None], tf.int64)
    elif kind == "sparse":
        spec = tf.SparseTensorSpec([None, None], tf.int64)

    def train(micro: bool) -> list[np.ndarray]:
        table = tf.Variable(start)
        optimizer = keras.optimizers.Adam(0.1)
        optimizer.build([table])

        @tf.function(input_signature=[spec])
        def step(inputs: Any) -> None:
            penalty = tf.reduce_sum(table**4) if regularized else None
            if micro:
                chunks = splitop.MicroBatches(lambda ids: lookup(kind, table, ids), inputs, size=4)
                (seed,) = tf.gradients(contrastive(chunks.iv), chunks.iv)
                chunks.minimize(optimizer, [table], seed, regularization=penalty, backend="fused")
            else:
                loss = contrastive(lookup(kind, table, inputs))
                loss = loss if penalty is None else loss + penalty
                splitop.minimize(optimizer, loss, [table], backend="reference")

        for _ in range(3):
            step(inputs)
        return [np.asarray(v) for v in (table, *optimizer.variables)]

    for actual, expected in zip(train(True), train(False), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-11)


def test_bags_of_ids_have_one_gradient_each() -> None:
    """A copy for each id would be as large as the embeddings of the whole batch."""
    trainer = Trainer(CASES["embeddings"], MICRO, size=4)
    trainer.step(CASES["embeddings"].inputs(np.random.default_rng(0), BATCH))
    assert sorted(str(table.combiner) for table in trainer.plan.tables) == ["None", "sum"]
    backward = [op for op in trainer.graph.get_operations() if op.type == "While"][1]
    body = trainer.graph._get_function(backward.get_attr("body").name).graph
    writes = [op for op in body.get_operations() if op.type == "TensorListSetItem"]
    shapes = [tuple(op.inputs[2].shape) for op in writes]
    # The gradients and the ids of bags of 6 of them, in 5 columns; then those of single ids, in 3.
    assert sorted(len(shape) for shape in shapes) == [1, 2, 2, 2]
    assert {shape[1] for shape in shapes if len(shape) == 2} in ({5, 3, 6}, {5, 3, None})


def test_intermediate_vectors_of_open_sizes() -> None:
    """A sequence whose length only a run tells."""
    w = tf.Variable(np.random.default_rng(0).normal(size=(5, 3)))
    start = w.numpy()
    optimizer = keras.optimizers.SGD(0.125)
    optimizer.build([w])

    @tf.function(input_signature=[tf.TensorSpec([None, None, 5], tf.float64)])
    def step(x: Any) -> Any:
        chunks = splitop.MicroBatches(lambda x: tf.tensordot(x, w, 1), x, size=4)
        chunks.minimize(optimizer, [w], 2 * chunks.iv)
        return chunks.iv

    for length in (2, 6):
        x = np.random.default_rng(length).normal(size=(11, length, 5))
        w.assign(start)
        iv = step(x)
        np.testing.assert_allclose(iv, x @ start, rtol=1e-9)
        gradient = np.einsum("blx,bly->xy", x, 2 * iv)
        np.testing.assert_allclose(w, start - 0.125 * gradient, rtol=1e-9)


def test_no_gradient_flows_back_through_the_vectors() -> None:
    """It would go through the loop, and keep all activations for that."""
    w = tf.Variable(np.ones(3))

    @tf.function
    def step(x: Any) -> Any:
        chunks = splitop.MicroBatches(lambda x: x * w, x, size=4)
        assert tf.gradients(chunks.iv, w) == [None]
        assert chunks.penalty is None
        return chunks.count

    assert step(tf.ones([11, 3], tf.float64)) == 3


@pytest.mark.parametrize("decorated", [False, True])
def test_autograph(decorated: bool) -> None:
    """A second part with AutoGraph is one that is a tf.function."""
    w = tf.Variable(np.ones(3))
    optimizer = keras.optimizers.SGD(0.125)
    optimizer.build([w])

    def second_part(x: Any) -> Any:
        if tf.reduce_sum(x) > 0:
            return x * w
        return 2 * x * w

    part = tf.function(second_part) if decorated else tf.autograph.to_graph(second_part)

    @tf.function
    def step(x: Any) -> Any:
        chunks = splitop.MicroBatches(part, x, size=2)
        chunks.minimize(optimizer, [w], tf.ones_like(chunks.iv))
        return chunks.iv

    x = np.array([1.0, 1, -1, -1, 1])[:, np.newaxis] * np.ones(3)
    np.testing.assert_array_equal(step(x)[:, 0], [1, 1, -2, -2, 1])
    np.testing.assert_allclose(w, 1 - 0.125 * (2 - 4 + 1) * np.ones(3))


def test_half_types_are_added_up_in_float32() -> None:
    """In bfloat16, 256 + 1 is 256."""
    w = tf.Variable(tf.ones([1], tf.bfloat16))
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build([w])

    @tf.function
    def step(x: Any) -> None:
        chunks = splitop.MicroBatches(lambda x: x * w, x, size=1)
        chunks.minimize(optimizer, [w], tf.ones_like(chunks.iv))

    step(tf.ones([385, 1], tf.bfloat16))
    np.testing.assert_array_equal(w, [-384.0])


def test_the_regularization_is_read_before_the_update() -> None:
    """In a TF1 graph nothing else orders the two."""
    with tf.Graph().as_default() as graph:
        w = tf1.get_variable("w", initializer=np.ones(3))
        x = tf1.placeholder(tf.float64, [None, 3])
        chunks = splitop.MicroBatches(lambda x: x * w, x, size=4)
        with tf.name_scope("regularization"):
            regularization = tf.reduce_sum(w.read_value())
        chunks.minimize(
            tf1.train.GradientDescentOptimizer(0.1),
            [w],
            tf.ones_like(chunks.iv),
            regularization=regularization,
        )
        (update,) = (op for op in graph.get_operations() if op.type == "Splitop>MultiTensorUpdate")
        before = reach.ancestors([*update.inputs], control=True)
        for op in update.control_inputs:
            before |= reach.ancestors(op.outputs, control=True) | {op: None}
        reads = {op.name for op in before if op.type == "ReadVariableOp"}
        assert any(name.startswith("regularization/") for name in reads)
