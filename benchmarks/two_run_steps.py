"""A step of both parts of a model in a TF1 session, on each path.

`joint` trains the unsplit model in one run, by plain TensorFlow; `plain` is the two-run flow as
one writes it with tf.gradients, with x and the seed fed again; `recompute` and `stash` are
split_minimize's two runs, `both` is its one run. All have the same weights and inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import splitop
from benchmarks.cases import BOTH, JOINT, PLAIN, STASH, TWO_RUN_PATHS, TwoRunCase
from benchmarks.steps import AGREEMENT, CHECKED_STEPS, EPSILON, LEARNING_RATE

tf1 = tf.compat.v1


class TwoRunStep:
    """One path's step, in a graph and a session of its own."""

    def __init__(self, case: TwoRunCase, path: str):
        random = np.random.default_rng(0)
        second = case.second
        self._inputs = random.standard_normal((second.batch, second.width), np.float32)
        self._labels = random.integers(0, case.classes, second.batch)
        with tf.Graph().as_default() as graph:
            self._build(case, random)
            self._step = self._make_step(path)
            self._session = tf1.Session(graph=graph)
            self._session.run(tf1.global_variables_initializer())

    def __call__(self) -> None:
        """Runs the step."""
        self._step()

    def weights(self) -> list[np.ndarray]:
        """All weights, those of the second part first."""
        return self._session.run(self._variables)

    def close(self) -> None:
        """Ends the session."""
        self._session.close()

    def _build(self, case: TwoRunCase, random: np.random.Generator) -> None:
        second = case.second
        self._x = tf1.placeholder(tf.float32, [None, second.width])
        self._y = tf1.placeholder(tf.int64, [None])
        iv = self._x
        with tf1.variable_scope("second_part"):
            for number in range(second.layers):
                iv = tf.nn.relu(_dense(iv, second.width, f"layer_{number}", random))
        with tf1.variable_scope("first_part"):
            logits = _dense(iv, case.classes, "logits", random)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self._y, logits=logits)
        self._iv, self._loss = iv, tf.reduce_mean(losses)
        self._variables = tf1.trainable_variables()

    def _make_step(self, path: str) -> Callable[[], Any]:
        if path == JOINT:
            return self._in_one_run(_adam().minimize(self._loss))
        if path == PLAIN:
            return self._by_gradients()
        ops = splitop.split_minimize(
            self._loss,
            self._iv,
            first_optimizer=_adam(),
            second_optimizer=_adam(),
            forward="stash" if path == STASH else "recompute",
            backend="fused",
        )
        if path == BOTH:
            return self._in_one_run(ops.train_both)
        if path == STASH:
            return self._in_two_runs(ops.train_first, ops.train_second)
        return self._with_seed(
            ops.train_first, ops.iv_gradients, ops.iv_gradients_ph, ops.train_second
        )

    def _by_gradients(self) -> Callable[[], Any]:
        second, first = (tf1.trainable_variables(scope) for scope in ("second_part", "first_part"))
        *gradients, seed = tf.gradients(self._loss, [*first, self._iv])
        train_first = _adam().apply_gradients(zip(gradients, first, strict=True))
        placeholder = tf1.placeholder(tf.float32, self._iv.shape)
        gradients = tf.gradients(self._iv, second, placeholder)
        train_second = _adam().apply_gradients(zip(gradients, second, strict=True))
        return self._with_seed(train_first, seed, placeholder, train_second)

    def _feed(self) -> dict[Any, Any]:
        return {self._x: self._inputs, self._y: self._labels}

    def _in_one_run(self, operation: Any) -> Callable[[], Any]:
        return lambda: self._session.run(operation, self._feed())

    def _in_two_runs(self, first: Any, second: Any) -> Callable[[], Any]:
        def step() -> None:
            self._session.run(first, self._feed())
            self._session.run(second)

        return step

    def _with_seed(self, first: Any, seed: Any, placeholder: Any, second: Any) -> Callable[[], Any]:
        def step() -> None:
            _, value = self._session.run([first, seed], self._feed())
            self._session.run(second, {self._x: self._inputs, placeholder: value})

        return step


def build_steps(case: TwoRunCase) -> dict[str, TwoRunStep]:
    """A step for each path."""
    return {path: TwoRunStep(case, path) for path in TWO_RUN_PATHS}


def check_agreement(steps: dict[str, TwoRunStep]) -> None:
    """Runs a few steps and asserts that they move the weights alike on all paths."""
    before = steps[JOINT].weights()
    for _ in range(CHECKED_STEPS):
        for step in steps.values():
            step()
        after = steps[JOINT].weights()
        for path, step in steps.items():
            for start, expected, value in zip(before, after, step.weights(), strict=True):
                moved = np.linalg.norm(expected - start)
                assert np.linalg.norm(value - expected) <= AGREEMENT * moved, path


def _adam() -> Any:
    return tf1.train.AdamOptimizer(LEARNING_RATE, epsilon=EPSILON)


def _dense(x: Any, units: int, name: str, random: np.random.Generator) -> Any:
    inputs = int(x.shape[1])
    kernel = random.standard_normal((inputs, units)) * (2 / inputs) ** 0.5
    with tf1.variable_scope(name):
        w = tf1.get_variable("kernel", initializer=kernel.astype(np.float32))
        b = tf1.get_variable("bias", initializer=np.full(units, 0.01, np.float32))
    return tf.matmul(x, w) + b
