"""Softmax whose gradient is an op of splitop's, and that is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.planner.models import Weights
from tests.planner.steps import FLAVOURS, Steps, run_as_reference
from tests.planner.walks import of_type

BATCH, TIME, WIDTH = 5, 7, 8
Build = Callable[[Weights, Any], Any]


def attention(w: Weights, x: Any) -> Any:
    return w.layer("mha", keras.layers.MultiHeadAttention, x, x, num_heads=2, key_dim=3)


def masked(w: Weights, x: Any) -> Any:
    """Each position sees itself and those before it."""
    options = {"num_heads": 2, "key_dim": 3}
    return w.layer("mha", _Causal, x, **options)


class _Causal(keras.layers.MultiHeadAttention):
    def build(self, shape: Any) -> None:
        super().build(shape, shape)

    def call(self, x: Any) -> Any:
        return super().call(x, x, use_causal_mask=True)


def over_another_axis(w: Weights, x: Any) -> Any:
    """TensorFlow transposes what it takes the softmax of."""
    return tf.nn.softmax(w.layer("low", keras.layers.Dense, x, units=WIDTH), axis=1)


def twice(w: Weights, x: Any) -> Any:
    h = tf.nn.softmax(w.layer("low", keras.layers.Dense, x, units=WIDTH))
    return tf.nn.softmax(h * 3.0) * h


def of_logarithms(w: Weights, x: Any) -> Any:
    return tf.nn.log_softmax(w.layer("low", keras.layers.Dense, x, units=WIDTH))


def in_a_loop(w: Weights, x: Any) -> Any:
    h = w.layer("low", keras.layers.Dense, x, units=WIDTH)
    return tf.while_loop(lambda i, _: i < 2, lambda i, h: (i + 1, tf.nn.softmax(h)), (0, h))[1]


def _run(build: Build, flavour: str = "keras", **options: Any) -> Steps:
    batches = list(np.random.default_rng(0).normal(size=(3, BATCH, TIME, WIDTH)))
    return run_as_reference(build, flavour, batches, 0.1, **options)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    ("build", "count"), [(attention, 1), (masked, 1), (over_another_axis, 1), (twice, 2)]
)
def test_the_same_step(build: Build, count: int, flavour: str, static: bool) -> None:
    fused = _run(build, flavour, static=static).fused_ops
    # A session may have run the graph already.
    assert (fused["SoftmaxGrad"] >= count) == (flavour == "keras")


@pytest.mark.parametrize("build", [of_logarithms, in_a_loop])
def test_others_stay(build: Build) -> None:
    assert _run(build).fused_ops["SoftmaxGrad"] == 0


@pytest.mark.parametrize("kind", ["bfloat16", "waits", "xla"])
def test_softmax_itself_stays(kind: str) -> None:
    """Where there is no such op, it waits for something, or XLA makes it."""
    kernel = tf.Variable(tf.ones([WIDTH, WIDTH]))
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build([kernel])

    @splitop.function(autograph=False, jit_compile=kind == "xla" or None)
    def step(x: Any) -> None:
        h = tf.matmul(x, kernel)
        with tf.control_dependencies([tf.abs(h).op] if kind == "waits" else []):
            iv = tf.nn.softmax(tf.cast(h, "bfloat16") if kind == "bfloat16" else h)
        iv = tf.cast(iv, tf.float32)
        splitop.minimize(optimizer, iv, [kernel], iv, backend="fused")

    graph = step.get_concrete_function(tf.ones([BATCH, WIDTH])).graph
    assert of_type(graph, "Splitop>DenseChain")
    assert of_type(graph, "Softmax")
    assert not of_own_type(graph)


def of_own_type(graph: Any) -> list[Any]:
    return [op for op in graph.get_operations() if op.type == "Splitop>Softmax"]


def test_xla_makes_its_own() -> None:
    assert _run(attention, jit=True).fused_ops["SoftmaxGrad"] == 0


@pytest.mark.parametrize("function", [tf.function, splitop.function])
def test_other_gradients_around_the_step(function: Any) -> None:
    """They have gradients, whether they are TensorFlow's or of ops of splitop's."""
    received = []
    for backend in ("fused", "reference"):
        kernel = tf.Variable(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build([kernel])

        @function(autograph=False)
        def step(
            x: Any, kernel: Any = kernel, optimizer: Any = optimizer, backend: str = backend
        ) -> Any:
            y = tf.nn.softmax(tf.matmul(x, kernel))
            iv = tf.nn.softmax(y * 2.0)
            before = tf.gradients(iv, x, tf.sin(iv))
            splitop.minimize(optimizer, iv, [kernel], x, backend=backend)
            after = tf.gradients(iv, x, tf.sin(iv))
            return before, after, tf.gradients(after, x)

        x = tf.constant(np.random.default_rng(1).normal(size=(BATCH, WIDTH)))
        received.append([*tf.nest.flatten(step(x)), kernel.numpy()])
        with tf.GradientTape() as tape:
            tape.watch(x)
            first = step(x)[0][0]
        received[-1].append(tape.gradient(first, x))
        graph = step.get_concrete_function(x).graph
        if backend == "fused":
            assert of_type(graph, "Splitop>SoftmaxGrad")
        is_own = backend == "fused" and function is splitop.function
        assert len(of_own_type(graph)) == (2 if is_own else 0)
    for fused, reference in zip(*received, strict=True):
        np.testing.assert_allclose(fused, reference, rtol=1e-9, atol=1e-11)
