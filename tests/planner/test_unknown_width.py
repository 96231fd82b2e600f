"""An x whose width only the step tells: one that W can't multiply is refused, and writes nothing.

Its elements may make up as many rows as the seed has, of the width that W needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop

tf1 = tf.compat.v1

ROWS, INPUTS, UNITS = 16, 20, 6
# As many elements as rows of W's width, or as many rows.
MISFITS = [(8, 40), (32, 10), (16, 40)]
HEADS = (4, 5)  # INPUTS in two dimensions

ACTIVATIONS = {"linear": tf.identity, "relu": tf.nn.relu, "tanh": tf.tanh}
OPTIMIZERS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "sgd": (lambda: keras.optimizers.SGD(0.1), {}),
    "adam": (lambda: keras.optimizers.Adam(0.1), {}),
    "clipnorm": (lambda: keras.optimizers.Adam(0.1, clipnorm=0.1), {}),
    "skip_nonfinite": (lambda: keras.optimizers.Adam(0.1), {"skip_nonfinite": True}),
}


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def dense(x: Any, kernel: Any, bias: Any) -> Any:
    return tf.matmul(x, kernel) + bias


def dense_on_sequences(x: Any, kernel: Any, bias: Any) -> Any:
    return tf.einsum("abc,cd->abd", x, kernel) + bias


def dense_of_heads(x: Any, kernel: Any, bias: Any) -> Any:
    return tf.einsum("abcd,cde->abe", x, kernel) + bias


class Layer:
    """A dense layer trained by splitop.minimize in a tf.function."""

    def __init__(
        self,
        optimizer: str = "sgd",
        activation: str = "relu",
        product: Callable[..., Any] = dense,
        x_shape: tuple[int | None, ...] = (None, None),
        inputs: tuple[int, ...] = (INPUTS,),
    ) -> None:
        variables = [tf.Variable(numbers(*inputs, UNITS)), tf.Variable(numbers(UNITS))]
        make, options = OPTIMIZERS[optimizer]
        self.optimizer = make()
        self.optimizer.build(variables)
        self.variables = [*variables, *self.optimizer.variables]
        seed_shape = (None, *(1 for _ in x_shape[1 : -len(inputs)]), UNITS)

        @tf.function(input_signature=[tf.TensorSpec(x_shape), tf.TensorSpec(seed_shape)])
        def step(x: Any, seed: Any) -> None:
            iv = ACTIVATIONS[activation](product(x, *variables))
            splitop.minimize(self.optimizer, iv, variables, seed, backend="fused", **options)

        self.step = step

    def trains_on(self, *x_shape: int) -> None:
        self.step(numbers(*x_shape), numbers(ROWS, *(1 for _ in self._between), UNITS))
        assert int(self.optimizer.iterations) == 1

    def refuses(self, *x_shape: int) -> None:
        before = [variable.numpy() for variable in self.variables]
        with pytest.raises(tf.errors.InvalidArgumentError):
            self.step(numbers(*x_shape), numbers(ROWS, *(1 for _ in self._between), UNITS))
        for variable, expected in zip(self.variables, before, strict=True):
            np.testing.assert_array_equal(variable, expected)

    @property
    def _between(self) -> tuple[int, ...]:
        """Dimensions of the seed but for the rows and the units."""
        return self.step.input_signature[1].shape[1:-1]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_in_a_tf_function(optimizer: str, activation: str) -> None:
    layer = Layer(optimizer, activation)
    for misfit in MISFITS:
        layer.refuses(*misfit)
    layer.trains_on(ROWS, INPUTS)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_on_sequences(activation: str) -> None:
    layer = Layer("sgd", activation, dense_on_sequences, (None, None, None))
    for rows, width in MISFITS:
        layer.refuses(rows, 1, width)
    layer.trains_on(ROWS, 1, INPUTS)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_in_two_dimensions(activation: str) -> None:
    layer = Layer("sgd", activation, dense_of_heads, (None, None, None, None), HEADS)
    for misfit in [(8, 1, 4, 10), (8, 1, 8, 5), (16, 1, 5, 4)]:
        layer.refuses(*misfit)
    layer.trains_on(ROWS, 1, *HEADS)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_in_a_tf1_graph_that_runs_the_second_part_again(graph: Any, activation: str) -> None:
    x = tf1.placeholder(tf.float32, [None, None])
    with tf1.variable_scope("second_part"):
        kernel = tf1.get_variable("k", [INPUTS, UNITS])
        bias = tf1.get_variable("b", [UNITS])
        iv = ACTIVATIONS[activation](dense(x, kernel, bias))
    with tf1.variable_scope("first_part"):
        loss = tf.reduce_sum((iv * tf1.get_variable("w", [UNITS])) ** 2)
    make = tf1.train.AdamOptimizer
    ops = splitop.split_minimize(
        loss, iv, first_optimizer=make(), second_optimizer=make(), backend="fused"
    )
    seed = {ops.iv_gradients_ph: numbers(ROWS, UNITS)}
    with tf1.Session(graph=graph) as session:
        session.run(tf1.global_variables_initializer())
        for misfit in MISFITS:
            before = session.run(tf1.global_variables())
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(ops.train_second, {x: numbers(*misfit), **seed})
            for old, new in zip(before, session.run(tf1.global_variables()), strict=True):
                np.testing.assert_array_equal(old, new)
        session.run(ops.train_second, {x: numbers(ROWS, INPUTS), **seed})
        assert np.any(session.run(kernel) != before[tf1.global_variables().index(kernel)])
