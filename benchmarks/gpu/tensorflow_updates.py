"""The backward pass from the seed and the updates in TensorFlow, on each path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

import splitop
from benchmarks.gpu import rules

Update = Callable[[tf.Tensor, tf.Tensor], object]


class Updates:
    """Ways to update a model's variables by one rule; each is called in a graph, with IV and seed.

    Args:
        model: The second part.
        rule: One of rules.RULES.
    """

    def __init__(self, model: Any, rule: str) -> None:
        self.variables = model.trainable_variables
        self._values = [variable.value for variable in self.variables]
        self._rule = rule
        self._rate = tf.Variable(rules.TIMED_RATE)
        self._keras_optimizer = _keras_optimizer(rule)
        self._keras_optimizer.build(self.variables)

    def set_rate(self, rate: float) -> None:
        """Sets the learning rate of the steps to come."""
        self._rate.assign(rate)
        self._keras_optimizer.learning_rate.assign(rate)

    def fused(self) -> Update:
        """splitop's op."""
        return self._planned("fused")

    def reference(self) -> Update:
        """tf.gradients, and TF1's fused update ops."""
        # TF1 has no AdamW.
        return self._decay_and_adam() if self._rule == "adamw" else self._planned("reference")

    def keras(self) -> Update:
        """tf.gradients, and the Keras optimizer."""

        def update(iv: tf.Tensor, seed: tf.Tensor) -> object:
            self._keras_optimizer.apply(self._gradients(iv, seed), self.variables)
            return tf.no_op()

        return update

    def _planned(self, backend: str) -> Update:
        """Through splitop's planner."""
        adamw = self._rule == "adamw"
        optimizer = self._keras_optimizer if adamw else self._tf1_optimizer(self._rule)

        def update(iv: tf.Tensor, seed: tf.Tensor) -> object:
            plan = splitop.plan(optimizer, iv, self.variables, grad_ys=seed, backend=backend)
            assert len(plan.fused) == (len(self.variables) if backend == "fused" else 0), str(plan)
            return plan.apply()

        return update

    def _decay_and_adam(self) -> Update:
        """TF1's Adam, after a decay of every variable."""
        optimizer = self._tf1_optimizer("adam")

        def update(iv: tf.Tensor, seed: tf.Tensor) -> object:
            gradients = self._gradients(iv, seed)
            decay = self._rate * rules.WEIGHT_DECAY
            with tf.control_dependencies(gradients):
                decays = [value.assign_sub(value * decay) for value in self._values]
            with tf.control_dependencies(decays):
                return optimizer.apply_gradients(zip(gradients, self._values, strict=True))

        return update

    def _gradients(self, iv: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
        gradients: list[tf.Tensor] = tf.gradients(iv, self._values, seed)
        return gradients

    def _tf1_optimizer(self, rule: str) -> Any:
        train = tf.compat.v1.train

        def rate() -> tf.Tensor:
            return tf.identity(self._rate)

        if rule == "sgd":
            return train.GradientDescentOptimizer(rate)
        if rule == "momentum":
            return train.MomentumOptimizer(rate, rules.MOMENTUM)
        return train.AdamOptimizer(rate, rules.BETA1, rules.BETA2, rules.EPSILON)


def _keras_optimizer(rule: str) -> Any:
    if rule in ("sgd", "momentum"):
        momentum = rules.MOMENTUM if rule == "momentum" else 0.0
        return keras.optimizers.SGD(rules.TIMED_RATE, momentum=momentum)
    adam = {"beta_1": rules.BETA1, "beta_2": rules.BETA2, "epsilon": rules.EPSILON}
    if rule == "adam":
        return keras.optimizers.Adam(rules.TIMED_RATE, **adam)
    return keras.optimizers.AdamW(rules.TIMED_RATE, weight_decay=rules.WEIGHT_DECAY, **adam)
