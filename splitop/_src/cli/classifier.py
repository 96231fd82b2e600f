"""The demo's model: a classifier in two parts, in a TF1 graph of its own."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tensorflow as tf

import splitop
from splitop._src.cli.digits import Images

PIXELS = 784
SECOND_PART = (512, 256)
CLASSES = 10

OPTIMIZERS = {
    "sgd": tf.compat.v1.train.GradientDescentOptimizer,
    "momentum": lambda rate: tf.compat.v1.train.MomentumOptimizer(rate, momentum=0.9),
    "adam": tf.compat.v1.train.AdamOptimizer,
}


class Classifier:
    """A graph with both parts, and the session that trains them by the two-run flow."""

    def __init__(self, optimizer: str, learning_rate: float, *, backend: str, seed: int):
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.compat.v1.set_random_seed(seed)
            self._build_model()
            self.ops = splitop.split_minimize(
                self.loss,
                self.iv,
                first_optimizer=OPTIMIZERS[optimizer](learning_rate),
                second_optimizer=OPTIMIZERS[optimizer](learning_rate),
                backend=backend,
            )
            self.session = tf.compat.v1.Session()
            self.session.run(tf.compat.v1.global_variables_initializer())

    def _build_model(self) -> None:
        self.x = tf.compat.v1.placeholder(tf.float32, [None, PIXELS], "x")
        self.labels = tf.compat.v1.placeholder(tf.int64, [None], "labels")
        with tf.compat.v1.variable_scope("second_part"):
            hidden = self.x
            for number, units in enumerate(SECOND_PART):
                hidden = tf.nn.relu(_dense(f"dense_{number}", hidden, units))
            self.iv = hidden
        with tf.compat.v1.variable_scope("first_part"):
            logits = _dense("logits", self.iv, CLASSES)
        self.variables = tf.compat.v1.trainable_variables()
        self.loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.labels, logits=logits)
        )
        hits = tf.equal(tf.argmax(logits, axis=1), self.labels)
        self.accuracy = tf.reduce_mean(tf.cast(hits, tf.float32))

    def _feed(self, images: Images) -> dict[Any, np.ndarray]:
        return {self.x: images.pixels, self.labels: images.labels}

    def step(self, images: Images) -> tuple[float, float]:
        """Trains both parts on one batch.

        Returns:
            Loss and accuracy before the step.
        """
        _, seed, loss, accuracy = self.session.run(
            [self.ops.train_first, self.ops.iv_gradients, self.loss, self.accuracy],
            self._feed(images),
        )
        self.session.run(
            self.ops.train_second, {self.x: images.pixels, self.ops.iv_gradients_ph: seed}
        )
        return float(loss), float(accuracy)

    def timed_step(self, images: Images) -> tuple[float, float]:
        """Trains both parts on one batch.

        Returns:
            Seconds that the first run and the second run took.
        """
        start = time.perf_counter()
        _, seed = self.session.run(
            [self.ops.train_first, self.ops.iv_gradients], self._feed(images)
        )
        between = time.perf_counter()
        self.session.run(
            self.ops.train_second, {self.x: images.pixels, self.ops.iv_gradients_ph: seed}
        )
        return between - start, time.perf_counter() - between

    def test_accuracy(self, images: Images) -> float:
        """Share of the images that the classifier names correctly."""
        return float(self.session.run(self.accuracy, self._feed(images)))

    def weights(self) -> dict[str, np.ndarray]:
        """The value of each trainable variable, by its name."""
        values = self.session.run(self.variables)
        return {
            variable.op.name: value for variable, value in zip(self.variables, values, strict=True)
        }

    def set_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Sets the trainable variables."""
        initializers = [variable.initializer for variable in self.variables]
        feed = {
            initializer.inputs[1]: weights[variable.op.name]
            for variable, initializer in zip(self.variables, initializers, strict=True)
        }
        self.session.run(initializers, feed)

    def close(self) -> None:
        """Frees the session."""
        self.session.close()


def _dense(name: str, inputs: Any, units: int) -> Any:
    with tf.compat.v1.variable_scope(name):
        kernel = tf.compat.v1.get_variable(
            "kernel",
            [inputs.shape[1], units],
            initializer=tf.compat.v1.glorot_uniform_initializer(),
        )
        bias = tf.compat.v1.get_variable(
            "bias", [units], initializer=tf.compat.v1.zeros_initializer()
        )
        return tf.nn.bias_add(tf.matmul(inputs, kernel), bias)
