"""Kernels whose gradients TensorFlow computes as sums of batched products."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.planner.training import plain_names

tf1 = tf.compat.v1

BATCH, TIME, INPUTS, OUTPUTS = 6, 3, 8, 5


def gradient_of(
    compute: Callable[[Any, Any], Any],
) -> Callable[[Any, Any], Any]:
    """A product x·W of which somebody else computes the kernel's gradient."""

    @tf.custom_gradient
    def product(x: Any, kernel: Any) -> Any:
        def grad(dy: Any) -> Any:
            return tf.zeros_like(x), compute(x, dy)

        return tf.matmul(x, kernel), grad

    return product


def sum_over(axis: int) -> Callable[[Any, Any], Any]:
    def compute(x: Any, dy: Any) -> Any:
        return tf.reduce_sum(tf.matmul(x, dy, transpose_a=True), axis)

    return compute


def broadcasting(x: Any, dy: Any) -> Any:
    return tf.reduce_sum(tf.matmul(x[:1], dy, transpose_a=True), 0)


def einsum_broadcasting(x: Any, dy: Any) -> Any:
    return tf.reduce_sum(tf.raw_ops.Einsum(inputs=[x[:1], dy], equation="...ti,...to->...io"), 0)


def waiting(where: str) -> Callable[[Any, Any], Any]:
    def compute(x: Any, dy: Any) -> Any:
        check = tf.raw_ops.Assert(condition=tf.reduce_max(dy) < 1e9, data=["too large"])
        axis = tf.constant([0])
        with tf.control_dependencies([check] if where == "product" else []):
            product = tf.matmul(x, dy, transpose_a=True)
        with tf.control_dependencies([check] if where == "sum" else []):
            return tf.reduce_sum(product, axis)

    return compute


@pytest.mark.usefixtures("graph")
class TestAKernelIsNotTaken:
    def plan(self, compute: Callable[[Any, Any], Any]) -> splitop.Plan:
        x = tf.random.normal([BATCH, TIME, INPUTS])
        kernel = tf1.get_variable("k", [INPUTS, OUTPUTS])
        seed = tf.random.normal([BATCH, TIME, OUTPUTS])
        iv = gradient_of(compute)(x, kernel)
        return splitop.plan(tf1.train.GradientDescentOptimizer(0.1), iv, [kernel], seed)

    def reason(self, compute: Callable[[Any, Any], Any]) -> str:
        plan = self.plan(compute)
        assert plan.chains == ()
        return plain_names(plan.updated)["k"]

    def test_that_is_summed_over_something_else(self) -> None:
        def compute(x: Any, dy: Any) -> Any:
            # As large a batch as inputs: a sum over the inputs has the kernel's shape, too.
            x = tf.concat([x, x[:2]], 0)
            return sum_over(1)(x, tf.concat([dy, dy[:2]], 0))

        assert "batched product" in self.reason(compute)

    @pytest.mark.parametrize("compute", [broadcasting, einsum_broadcasting])
    def test_whose_input_is_broadcast(self, compute: Callable[[Any, Any], Any]) -> None:
        assert "batched product" in self.reason(compute)

    @pytest.mark.parametrize("where", ["product", "sum"])
    def test_that_waits(self, where: str) -> None:
        assert "control dependencies" in self.reason(waiting(where))

    def test_unless_the_sum_is_the_same(self) -> None:
        assert len(self.plan(sum_over(0)).chains) == 1


def heads(x: Any) -> Any:
    """Two layers, of kernels [8, 2, 3] and [2, 3, 8]."""
    h = tf.einsum("btd,dhk->bthk", x, tf1.get_variable("low", [INPUTS, 2, 3]))
    return tf.einsum("bthk,hkd->btd", tf.sin(h), tf1.get_variable("top", [2, 3, INPUTS]))


def matmuls(x: Any) -> Any:
    h = tf.matmul(x, tf1.get_variable("low", [INPUTS, 6]))
    return tf.matmul(tf.sin(h), tf1.get_variable("top", [6, INPUTS]))


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize("shape", [(BATCH, TIME, INPUTS), (None, None, INPUTS)])
@pytest.mark.parametrize("model", [heads, matmuls])
class TestTheProducts:
    def step(self, model: Callable[[Any], Any], shape: Any) -> tuple[Any, Any, splitop.Plan]:
        x = tf1.placeholder(tf.float32, shape)
        iv = model(x)
        optimizer = tf1.train.AdamOptimizer(1e-3)
        plan = splitop.plan(optimizer, iv, tf1.trainable_variables(), tf.ones_like(x))
        return x, plan.apply(), plan

    def test_of_the_reference_are_all_replaced(self, model: Any, shape: Any) -> None:
        x, step, plan = self.step(model, shape)
        assert [chain.input_gradient for chain in plan.chains] == [False, True]
        metadata = tf1.RunMetadata()
        options = tf1.RunOptions(trace_level=tf1.RunOptions.FULL_TRACE)
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            session.run(step, {x: np.ones([BATCH, TIME, INPUTS])}, options, metadata)
        nodes = [node for device in metadata.step_stats.dev_stats for node in device.node_stats]
        labels = "\n".join(node.timeline_label for node in nodes)
        executed = re.findall(r"= [\w>]*?(MatMulV2|Einsum|DenseChain|Sum)\(", labels)
        # The forward pass is all that is left; its last layer only to tell an open shape.
        forward = ["Einsum" if model is heads else "MatMulV2"] * (2 if None in shape else 1)
        assert sorted(executed) == sorted(["DenseChain", "DenseChain", *forward])

    def test_leave_the_variables_where_they_are(self, model: Any, shape: Any) -> None:
        x, step, _ = self.step(model, shape)
        places = [
            tf.numpy_function(lambda value: np.int64(value.ctypes.data), [variable], tf.int64)
            for variable in tf1.global_variables()
            if variable.shape.rank
        ]
        feed = {x: np.ones([BATCH, TIME, INPUTS])}
        with tf1.Session() as session:
            session.run(tf1.global_variables_initializer())
            session.run(step, feed)
            before = session.run(places)
            for _ in range(10):
                session.run(step, feed)
                assert session.run(places) == before


def test_another_batch_from_step_to_step() -> None:
    """The op's rows follow from what arrives."""
    results = []
    for backend in ("fused", "reference"):
        keras.utils.set_random_seed(0)
        layer = keras.layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")
        layer.build((None, None, INPUTS))
        optimizer = keras.optimizers.Adam()
        optimizer.build(layer.trainable_variables)

        @tf.function(input_signature=[tf.TensorSpec([None, None, INPUTS])], autograph=False)
        def step(
            x: Any, layer: Any = layer, optimizer: Any = optimizer, backend: str = backend
        ) -> None:
            splitop.minimize(
                optimizer, tf.tanh(layer(x)), layer.trainable_variables, backend=backend
            )

        for batch, time in ((1, 1), (4, 2), (2, 5)):
            step(tf.random.stateless_normal([batch, time, INPUTS], [batch, time]))
        results.append([variable.numpy() for variable in layer.trainable_variables])
    for fused, reference in zip(*results, strict=True):
        np.testing.assert_allclose(fused, reference, rtol=1e-5, atol=1e-6)
