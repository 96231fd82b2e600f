"""A model in two parts on two hosts, or in one process, and its training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop

tf1 = tf.compat.v1

BATCH, FEATURES, IV, CLASSES, ROWS, BAG, BATCHES = 7, 5, 3, 4, 11, 2, 6

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "adam": lambda: tf1.train.AdamOptimizer(0.02),
    "momentum": lambda: tf1.train.MomentumOptimizer(0.05, 0.9),
    "proximal": lambda: tf1.train.ProximalAdagradOptimizer(0.05),
    "keras adam": lambda: keras.optimizers.Adam(0.02),
    "keras clipped": lambda: keras.optimizers.AdamW(0.02, global_clipnorm=0.1),
}


class Trainer:
    """A model with its split operations, in a session of its own.

    The second part reads its input by itself, on its host; the labels are fed.
    """

    def __init__(
        self,
        cluster: splitop.cluster.Cluster | None,
        optimizer: str,
        *,
        fed: bool = False,
        **options: Any,
    ) -> None:
        on_first, on_second = contextlib.nullcontext, contextlib.nullcontext
        if cluster is not None:
            on_first, on_second = cluster.first_part, cluster.second_part
        keras.utils.set_random_seed(1)
        with tf.Graph().as_default() as self.graph:
            tf1.set_random_seed(1)
            with on_second():
                self.x, ids, start = _inputs(fed)
                with tf1.variable_scope("second_part"):
                    self.iv = _second_part(self.x, ids)
                second = OPTIMIZERS[optimizer]()
            with on_first():
                self.labels = tf1.placeholder(tf.int64, [None], "labels")
                with tf1.variable_scope("first_part"):
                    logits = _dense(_dense(self.iv, 6, "hidden", tf.nn.relu), CLASSES, "logits")
                first = OPTIMIZERS[optimizer]()
                step = tf1.get_variable(
                    "step", [], tf.int64, tf1.zeros_initializer(), trainable=False
                )
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=self.labels, logits=logits
            )
            self.ops = splitop.split_minimize(
                tf.reduce_mean(losses),
                self.iv,
                first_optimizer=first,
                second_optimizer=second,
                global_step=step,
                **options,
            )
            self.variables = tf1.global_variables()
            self.session = tf1.Session() if cluster is None else cluster.session()
            self.session.run([tf1.global_variables_initializer(), start])

    def feeds(self, step: int) -> dict[Any, Any]:
        random = np.random.default_rng(step)
        fed = {self.labels: random.integers(0, CLASSES, BATCH)}
        if self.x.op.type == "Placeholder":
            fed[self.x] = random.normal(size=(BATCH, FEATURES))
        return fed

    def run_both(self, step: int) -> None:
        self.session.run(self.ops.train_both, self.feeds(step))

    def two_runs(self, step: int) -> None:
        """Both runs; the seed goes through this process unless it is stashed."""
        _, seed = self.session.run([self.ops.train_first, self.ops.iv_gradients], self.feeds(step))
        self.session.run(self.ops.train_second, self.seed(seed))

    def seed(self, seed: Any) -> dict[Any, Any]:
        """What run 2 is fed."""
        stashed = self.ops.iv_gradients_ph.op.type == "PlaceholderWithDefault"
        return {} if stashed else {self.ops.iv_gradients_ph: seed}

    def state(self) -> dict[str, np.ndarray]:
        """All variables, counters and slots by name."""
        names = [variable.name for variable in self.variables]
        return dict(zip(names, self.session.run(self.variables), strict=True))


def _inputs(fed: bool) -> tuple[Any, Any, Any]:
    """Batches that are read where this is built, and what starts the reading."""
    random = np.random.default_rng(3)
    x = random.normal(size=(BATCHES, BATCH, FEATURES)).astype(np.float32)
    ids = random.integers(0, ROWS, (BATCHES, BATCH, BAG))
    data = tf.data.Dataset.from_tensor_slices((tf.constant(x), tf.constant(ids))).repeat()
    batches = tf1.data.make_initializable_iterator(data)
    read, ids = batches.get_next()
    if fed:
        read = tf1.placeholder(tf.float32, [None, FEATURES], "x")
    return read, ids, batches.initializer


def _second_part(x: Any, ids: Any) -> Any:
    table = tf1.get_variable("table", [ROWS, 3], initializer=tf1.glorot_uniform_initializer(3))
    h = _dense(x, 8, "low", tf.nn.relu)
    h = tf.concat([h, tf.reduce_sum(tf.nn.embedding_lookup(table, ids), 1)], 1)
    return _dense(tf.nn.dropout(h, 0.2, seed=5), IV, "top", tf.nn.tanh)


def _dense(x: Any, units: int, name: str, activation: Any = None) -> Any:
    with tf1.variable_scope(name):
        kernel = tf1.get_variable(
            "k", [x.shape[1], units], x.dtype, tf1.glorot_uniform_initializer(3)
        )
        z = tf.matmul(x, kernel) + tf1.get_variable("b", [units], x.dtype, tf1.zeros_initializer())
        return z if activation is None else activation(z)
