"""TF1 graphs: the same with a session."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop import CheckpointError
from tests.checkpoint.parts import BATCH, CLASSES, INPUTS, batch

v1 = tf.compat.v1


class GraphTraining:
    """Both parts in a graph, with the operations of the two-run flow."""

    def __init__(
        self,
        *,
        units: int = 7,
        make_second: Callable[[], Any] = lambda: v1.train.AdamOptimizer(0.01),
        with_second: bool = True,
        seed: int = 0,
        names: tuple[str, ...] = ("w", "b"),
    ) -> None:
        self.graph = tf.Graph()
        with self.graph.as_default():
            v1.set_random_seed(seed)
            self.x = v1.placeholder(tf.float32, [BATCH, INPUTS])
            self.labels = v1.placeholder(tf.int64, [BATCH])
            with v1.variable_scope("second_part"):
                shapes = {"w": [INPUTS, units], "b": [units]}
                second = {name: v1.get_variable(name, shapes[name]) for name in names}
                iv = tf.nn.relu(tf.matmul(self.x, second["w"]) + second["b"])
            with v1.variable_scope("first_part"):
                logits = tf.matmul(iv, v1.get_variable("w", [units, CLASSES]))
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.labels, logits=logits)
            )
            first_optimizer = v1.train.MomentumOptimizer(0.1, 0.9)
            second_optimizer = make_second()
            steps = v1.train.get_or_create_global_step()
            self.parts = {
                "first": {
                    "variables": v1.trainable_variables("first_part/"),
                    "optimizer": first_optimizer,
                    "step": steps,
                },
                "second": {
                    "variables": v1.trainable_variables("second_part/"),
                    "optimizer": second_optimizer,
                },
            }
            if with_second:
                self.ops = splitop.split_minimize(
                    loss,
                    iv,
                    first_optimizer=first_optimizer,
                    second_optimizer=second_optimizer,
                    global_step=steps,
                )
            self.variables = v1.global_variables()
            self.session = v1.Session()
            self.session.run(v1.global_variables_initializer())

    def train(self, start: int, stop: int) -> None:
        for step in range(start, stop):
            x, labels = batch(step)
            _, seed = self.session.run(
                [self.ops.train_first, self.ops.iv_gradients], {self.x: x, self.labels: labels}
            )
            self.session.run(self.ops.train_second, {self.x: x, self.ops.iv_gradients_ph: seed})

    def bits(self) -> dict[str, bytes]:
        values = self.session.run({v.name: v for v in self.variables})
        return {name: np.asarray(value).tobytes() for name, value in values.items()}


@pytest.mark.parametrize(
    "make_second",
    [
        pytest.param(lambda: v1.train.AdamOptimizer(0.01), id="tf1-adam"),
        pytest.param(lambda: v1.train.RMSPropOptimizer(0.01, centered=True), id="tf1-rmsprop"),
        pytest.param(lambda: keras.optimizers.AdamW(0.01), id="keras-adamw"),
    ],
)
def test_a_new_graph_goes_on_to_the_same_bits(
    make_second: Callable[[], Any], tmp_path: pathlib.Path
) -> None:
    run = GraphTraining(make_second=make_second)
    checkpoint = splitop.Checkpoint(tmp_path, **run.parts)
    with run.session as session:
        assert checkpoint.restore(session=session) is None
        run.train(0, 3)
        checkpoint.save(3, session=session)
        saved = run.bits()
        assert saved["global_step:0"] == np.int64(3).tobytes()
        run.train(3, 5)
        expected = run.bits()

    keras.utils.clear_session()  # The names that Keras gives are those of a new process.
    other = GraphTraining(make_second=make_second, seed=1)
    with other.session as session:
        assert other.bits() != saved
        assert splitop.Checkpoint(tmp_path, **other.parts).restore(session=session) == 3
        assert other.bits() == saved
        other.train(3, 5)
        assert other.bits() == expected


def test_lists_are_known_by_their_variables_names(tmp_path: pathlib.Path) -> None:
    run, other = GraphTraining(), GraphTraining(names=("b", "w"), seed=1)
    with run.session, other.session:
        run.train(0, 1)
        splitop.Checkpoint(tmp_path, **run.parts).save(1, session=run.session)
        assert splitop.Checkpoint(tmp_path, **other.parts).restore(session=other.session) == 1
        assert other.bits() == run.bits()


def test_only_the_first_call_adds_operations(tmp_path: pathlib.Path) -> None:
    run = GraphTraining()
    late = splitop.Checkpoint(tmp_path, **run.parts)
    checkpoint = splitop.Checkpoint(tmp_path, **run.parts)
    with run.session as session:
        checkpoint.save(1, session=session)
        run.graph.finalize()
        checkpoint.save(2, session=session)
        assert checkpoint.restore(1, session=session) == 1
        with pytest.raises(CheckpointError, match=r"before it is final.*Received: a finalized"):
            late.restore(session=session)


def test_reference_variables(tmp_path: pathlib.Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        variable = v1.get_variable("v", initializer=1.0, use_resource=False)
        checkpoint = splitop.Checkpoint(tmp_path, part={"variables": [variable]})
        session.run(variable.initializer)
        checkpoint.save(1, session=session)
        session.run(variable.assign(2.0))
        assert checkpoint.restore(session=session) == 1
        assert session.run(variable) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 6}, r'"first_part/w:0" must be float32 \[7, 3\].*Received: float32 \[6, 3\]'),
        ({"with_second": False}, r"must have the variables .*Momentum:0 too.*Received: "),
        (
            {"make_second": lambda: v1.train.GradientDescentOptimizer(0.1)},
            r'"optimizer" of AdamOptimizer, as when it was saved\. '
            r'Received: the optimizers "optimizer" of GradientDescentOptimizer',
        ),
    ],
)
def test_other_variables(options: dict[str, Any], message: str, tmp_path: pathlib.Path) -> None:
    run, other = GraphTraining(), GraphTraining(seed=1, **options)
    with run.session, other.session:
        splitop.Checkpoint(tmp_path, **run.parts).save(1, session=run.session)
        before = other.bits()
        with pytest.raises(CheckpointError, match=message):
            splitop.Checkpoint(tmp_path, **other.parts).restore(session=other.session)
        assert other.bits() == before


def test_a_session_is_needed_and_only_variables(tmp_path: pathlib.Path) -> None:
    run = GraphTraining()
    checkpoint = splitop.Checkpoint(tmp_path, **run.parts)
    in_graph = pytest.raises(CheckpointError, match=r"Received: no session, in a graph")
    with run.session, run.graph.as_default(), in_graph:
        checkpoint.save(1)
    with pytest.raises(CheckpointError, match=r"pass session=.* Received: .*global_step:0"):
        checkpoint.save(1)
    with pytest.raises(CheckpointError, match=r"must be a tf\.compat\.v1\.Session.*Received: 3"):
        checkpoint.save(1, session=3)
    with tf.Graph().as_default(), v1.Session() as session:
        table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, -1)
        checkpoint = splitop.Checkpoint(tmp_path, part={"table": table})
        with pytest.raises(CheckpointError, match=r"must be made of variables.*Received: table"):
            checkpoint.save(1, session=session)
    assert list(tmp_path.glob("save-*")) == []
