"""Models in two parts, in a TF1 graph of their own, and sessions that train them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import splitop

tf1 = tf.compat.v1

BATCH = 6
FEATURES = 5
CLASSES = 3

Optimizer = Callable[[], Any]


def dense(x: Any, units: int, name: str, activation: Any = None) -> Any:
    """A dense layer in plain TF1."""
    with tf1.variable_scope(name):
        start = tf1.glorot_uniform_initializer(seed=3)
        kernel = tf1.get_variable("k", [x.shape[1], units], x.dtype, start)
        z = tf.matmul(x, kernel) + tf1.get_variable("b", [units], x.dtype, tf1.zeros_initializer())
        return z if activation is None else activation(z)


class Model:
    """x -> second part -> iv -> first part -> loss, and its placeholders.

    Attributes:
        x: Input of the second part.
        labels: Input of the first part.
        iv: The intermediate vector, or vectors.
        loss: The scalar loss.
    """

    def __init__(
        self, *, two_ivs: bool = False, conv: bool = False, last: Any = tf.nn.tanh
    ) -> None:
        self.x = tf1.placeholder(tf.float32, [None, FEATURES], "x")
        self.labels = tf1.placeholder(tf.int64, [None], "labels")
        with tf1.variable_scope("second_part"):
            h = self.x
            if conv:
                h = tf.reshape(h, [-1, FEATURES, 1])
                h = tf.nn.relu(tf.nn.conv1d(h, tf1.get_variable("conv", [2, 1, 3]), 1, "VALID"))
                h = tf.reshape(h, [-1, (FEATURES - 1) * 3])
            h = dense(h, 7, "low", tf.nn.relu)
            self.iv = dense(h, 4, "top", last)
            if two_ivs:
                self.iv = {"a": self.iv, "b": (dense(h, 2, "side"),)}
        with tf1.variable_scope("first_part"):
            h = tf.concat(tf.nest.flatten(self.iv), axis=1)
            h = dense(h, 6, "hidden", tf.nn.relu)
            logits = dense(h, CLASSES, "logits")
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.labels, logits=logits)
        self.loss = tf.reduce_mean(losses, name="loss")


def feeds(model: Model, step: int) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """What the second part and what the first part is fed in a step."""
    random = np.random.default_rng(step)
    x = random.normal(size=(BATCH, FEATURES)).astype(np.float32)
    return {model.x: x}, {model.labels: random.integers(0, CLASSES, BATCH)}


class Trainer:
    """A model with its split operations, in a session of its own."""

    def __init__(
        self, backend: str, optimizer: Optimizer, model: Callable[[], Model] = Model, **options: Any
    ) -> None:
        with tf.Graph().as_default():
            tf1.set_random_seed(1)
            self.model = model()
            self.weights = tf1.trainable_variables()
            self.ops = splitop.split_minimize(
                self.model.loss,
                self.model.iv,
                first_optimizer=optimizer(),
                second_optimizer=optimizer(),
                backend=backend,
                **options,
            )
            self.variables = tf1.global_variables()
            self.session = tf1.Session()
            self.session.run(tf1.global_variables_initializer())

    def run_1(self, step: int) -> Any:
        """Trains the first part; returns the seed."""
        second, first = feeds(self.model, step)
        fetches = [self.ops.train_first, self.ops.iv_gradients]
        return self.session.run(fetches, {**second, **first})[1]

    def run_2(self, step: int, seed: Any) -> None:
        """Trains the second part."""
        second, _ = feeds(self.model, step)
        self.session.run(self.ops.train_second, {**second, **self.with_seed(seed)})

    def run_both(self, step: int) -> None:
        """Trains both parts in one run."""
        second, first = feeds(self.model, step)
        self.session.run(self.ops.train_both, {**second, **first})

    def gradients(self, step: int) -> Any:
        """dL/dIV alone."""
        second, first = feeds(self.model, step)
        return self.session.run(self.ops.iv_gradients, {**second, **first})

    def with_seed(self, seed: Any) -> dict[Any, Any]:
        """A feed of the seed's placeholders."""
        placeholders = tf.nest.flatten(self.ops.iv_gradients_ph)
        return dict(zip(placeholders, tf.nest.flatten(seed), strict=True))

    def state(self) -> dict[str, np.ndarray]:
        """All variables, counters and slots by name."""
        values = self.session.run(self.variables)
        return {v.name: value for v, value in zip(self.variables, values, strict=True)}
