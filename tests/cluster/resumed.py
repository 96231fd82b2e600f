"""A training that can go on from a checkpoint: a step depends on its number and the variables."""

from __future__ import annotations

import contextlib
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

import splitop

tf1 = tf.compat.v1

BATCH, FEATURES, IV, CLASSES, ROWS, BATCHES = 7, 5, 3, 4, 11, 9
BOTH, RUN_1, RUN_2 = "both", "run 1", "run 2"
_NO_WORK = ("Const", "VarHandleOp", "Placeholder", "PlaceholderWithDefault", "NoOp")


class Training:
    """A graph of two parts, its operations, and its checkpoints."""

    def __init__(self, cluster: splitop.cluster.Cluster | None, folder: pathlib.Path, forward: str):
        self.cluster = cluster
        on_first, on_second = contextlib.nullcontext, contextlib.nullcontext
        if cluster is not None:
            on_first, on_second = cluster.first_part, cluster.second_part
        optimizers = tf1.train.MomentumOptimizer(0.05, 0.9), tf1.train.AdamOptimizer(0.02)
        with tf.Graph().as_default() as self.graph:
            tf1.set_random_seed(1)
            with on_second():
                self.number = tf1.placeholder(tf.int64, [], "number")
                with tf1.variable_scope("second_part"):
                    iv = _second_part(self.number)
            with on_first():
                self.labels = tf1.placeholder(tf.int64, [BATCH], "labels")
                with tf1.variable_scope("first_part"):
                    logits = _dense(iv, CLASSES, "logits")
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=self.labels, logits=logits
            )
            self.ops = splitop.split_minimize(
                tf.reduce_mean(losses),
                iv,
                first_optimizer=optimizers[0],
                second_optimizer=optimizers[1],
                forward=forward,
            )
            self.variables = tf1.global_variables()
            self._start = tf1.global_variables_initializer()
        parts = {
            part: {"variables": _under(part, self.variables), "optimizer": optimizer}
            for part, optimizer in zip(("first_part", "second_part"), optimizers, strict=True)
        }
        self._checkpoint = splitop.Checkpoint(folder, **parts)

    def resume(self) -> tuple[Any, int]:
        """A new session, at the step of the last checkpoint."""
        session = tf1.Session(graph=self.graph)
        if self.cluster is not None:
            session = self.cluster.session(self.graph)
        step = self._checkpoint.restore(session=session)
        if step is None:
            session.run(self._start)
        return session, step or 0

    def step(self, session: Any, number: int, two_runs: bool) -> None:
        for kind in (RUN_1, RUN_2) if two_runs else (BOTH,):
            self.run(session, number, kind)

    def run(self, session: Any, number: int, kind: str, *more: Any) -> None:
        """A run of a step; of the two-run flow, the seed goes by this process unless stashed."""
        feeds = self.feeds(number)
        if kind == RUN_2 and self.ops.iv_gradients_ph.op.type == "Placeholder":
            feeds[self.ops.iv_gradients_ph] = self._seed
        seeds = self.ops.iv_gradients if kind == RUN_1 else []
        self._seed, *_ = session.run([seeds, self._target(kind), *more], feeds)

    def feeds(self, number: int) -> dict[Any, Any]:
        """What a step is fed."""
        labels = np.random.default_rng(number).integers(0, CLASSES, BATCH)
        return {self.number: number, self.labels: labels}

    def save(self, session: Any, step: int) -> None:
        self._checkpoint.save(step, session=session)

    def work(self, kind: str) -> list[tf.Operation]:
        """The operations of a run that do anything, each after those that it needs."""
        found, left = set(), [self._target(kind)]
        while left:
            if (op := left.pop()) not in found:
                found.add(op)
                left += [*op.control_inputs, *(tensor.op for tensor in op.inputs)]
        return [op for op in self.graph.get_operations() if op in found and op.type not in _NO_WORK]

    def death_after(self, op: tf.Operation, part: str) -> tf.Operation:
        """What ends the process of a part, there and then, when an operation has run."""
        assert self.cluster is not None
        scope = self.cluster.first_part if part == "first" else self.cluster.second_part
        with self.graph.as_default(), scope(), tf.control_dependencies([op]):
            return tf.raw_ops.Abort(error_msg="")

    def state(self, session: Any) -> dict[str, np.ndarray]:
        names = [variable.name for variable in self.variables]
        return dict(zip(names, session.run(self.variables), strict=True))

    def _target(self, kind: str) -> tf.Operation:
        by_kind = {
            BOTH: self.ops.train_both,
            RUN_1: self.ops.train_first,
            RUN_2: self.ops.train_second,
        }
        return by_kind[kind]


def undisturbed(folder: pathlib.Path, forward: str, two_runs: list[bool]) -> dict[str, np.ndarray]:
    """The variables after some steps in one process, without an end."""
    training = Training(None, folder, forward)
    session, _ = training.resume()
    with session:
        for number, two in enumerate(two_runs):
            training.step(session, number, two)
        return training.state(session)


def _under(scope: str, variables: list[Any]) -> list[Any]:
    return [variable for variable in variables if variable.name.startswith(f"{scope}/")]


def _second_part(number: Any) -> Any:
    random = np.random.default_rng(3)
    x = random.normal(size=(BATCHES, BATCH, FEATURES)).astype(np.float32)
    ids = random.integers(0, ROWS, (BATCHES, BATCH, 2))
    now = number % BATCHES
    table = tf1.get_variable("table", [ROWS, 3], initializer=tf1.glorot_uniform_initializer(3))
    bags = tf.reduce_sum(tf.nn.embedding_lookup(table, tf.gather(tf.constant(ids), now)), 1)
    h = tf.concat([_dense(tf.gather(tf.constant(x), now), 8, "low"), bags], 1)
    h = tf.nn.experimental.stateless_dropout(tf.nn.relu(h), 0.2, seed=[number, 7])
    return tf.tanh(_dense(h, IV, "top"))


def _dense(x: Any, units: int, name: str) -> Any:
    with tf1.variable_scope(name):
        kernel = tf1.get_variable("k", [x.shape[1], units], initializer=_GLOROT)
        return tf.matmul(x, kernel) + tf1.get_variable("b", [units], initializer=_ZEROS)


_GLOROT, _ZEROS = tf1.glorot_uniform_initializer(3), tf1.zeros_initializer()
