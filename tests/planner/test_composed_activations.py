"""Activations whose gradients TensorFlow composes of several operations: silu and gelu."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.planner.models import Model, Weights, dense
from tests.planner.training import kernels_of, train

tf1 = tf.compat.v1

WRITTEN = {
    "tf.nn.silu": ("silu", tf.nn.silu),
    "tf.nn.swish": ("silu", tf.nn.swish),
    "keras silu": ("silu", keras.activations.silu),
    "z * sigmoid": ("silu", lambda z: z * tf.sigmoid(z)),
    "sigmoid * z": ("silu", lambda z: tf.sigmoid(z) * z),
    "tf.nn.gelu": ("gelu", tf.nn.gelu),
    "keras gelu": ("gelu", lambda z: keras.activations.gelu(z, approximate=False)),
}
SHAPES = {"static": (6, 8), "open": (None, 8), "rank 3": (None, 3, 8), "all open": (None, None, 8)}


def activations_of(
    activation: Callable[[Any], Any], shape: Any = (None, 8), **options: Any
) -> list[str]:
    """What a plan finds of two layers with this activation, from the top down."""
    x = tf1.placeholder(options.pop("dtype", tf.float32), shape)
    h = x
    for name, units in (("low", 7), ("top", 5)):
        kernel = tf1.get_variable(name, [h.shape[-1], units], h.dtype)
        h = activation(tf.tensordot(h, kernel, 1))
    plan = splitop.plan(tf1.train.AdamOptimizer(), h, tf1.trainable_variables(), **options)
    assert not plan.declined
    return [layer.activation for chain in plan.chains for layer in chain.layers]


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("written", WRITTEN)
def test_found_however_it_is_written(written: str, shape: Any) -> None:
    kind, activation = WRITTEN[written]
    assert activations_of(activation, shape) == [kind, kind]


def half_erfc(z: Any, half: float = 0.5, root: float = math.sqrt(0.5)) -> Any:
    """Gelu as tf.nn.gelu writes it, but with a coefficient that is exact in float64."""
    return (half * z) * tf.math.erfc(-z * root)


OTHERS = {
    "swish with a beta": lambda z: tf.nn.silu(z, beta=2.0),
    "approximate gelu": lambda z: tf.nn.gelu(z, approximate=True),
    "other factor": lambda z: half_erfc(z, half=0.25),
    "other scale": lambda z: half_erfc(z, root=0.7),
    "gate of another tensor": lambda z: z * tf.sigmoid(tf.stop_gradient(z)),
    "residual": lambda z: z + tf.nn.silu(z),
    "hard": lambda z: z * tf.clip_by_value(z / 6 + 0.5, 0.0, 1.0),
}


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_left_to_tensorflow_where_it_is_another_function(other: Callable[[Any], Any]) -> None:
    assert activations_of(other) == ["linear", "linear"]


@pytest.mark.usefixtures("graph")
class TestGeluInFloat64:
    def test_of_tensorflow_is_another_function(self) -> None:
        """It rounds the coefficient to float32."""
        assert activations_of(tf.nn.gelu, dtype=tf.float64) == ["linear", "linear"]

    def test_with_the_exact_coefficient(self) -> None:
        assert activations_of(half_erfc, dtype=tf.float64) == ["gelu", "gelu"]


def silu_that_waits_for(*operations: Any) -> Callable[[Any, Any], Any]:
    """Silu of z, as tf.nn.silu writes its gradient; `extra` gets a part of it as its own."""

    @tf.custom_gradient
    def silu(z: Any, extra: Any) -> Any:
        def gradient(upstream: Any) -> Any:
            with tf.control_dependencies([upstream.op, *operations]):
                sigmoid = tf.sigmoid(1.0 * z)
            slope = sigmoid * (1.0 + 1.0 * z * (1.0 - sigmoid))
            return upstream * slope, upstream * sigmoid

        return z * tf.sigmoid(z) + 0.0 * extra, gradient

    return silu


@pytest.mark.usefixtures("graph")
class TestStaysOutside:
    def activation_of(self, silu: Callable[[Any, Any], Any], *names: str) -> str:
        z = tf.ones([6, 8]) @ tf1.get_variable("k", [8, 4])
        iv = silu(z, tf.ones([6, 1]) * tf1.get_variable("extra", [4]))
        trained = [variable for variable in tf1.trainable_variables() if variable.name in names]
        plan = splitop.plan(tf1.train.AdamOptimizer(), iv, trained)
        return plan.chains[0].layers[0].activation

    def test_where_an_operation_waits(self) -> None:
        assert self.activation_of(silu_that_waits_for(tf.no_op()), "k:0") == "linear"

    def test_not_where_it_waits_for_the_upstream_gradient(self) -> None:
        assert self.activation_of(silu_that_waits_for(), "k:0") == "silu"

    def test_where_a_part_of_it_is_needed(self) -> None:
        assert self.activation_of(silu_that_waits_for(), "k:0", "extra:0") == "linear"

    @pytest.mark.parametrize("activation", [tf.nn.silu, tf.nn.gelu])
    def test_where_its_result_is_needed(self, activation: Callable[[Any], Any]) -> None:
        def with_extra(z: Any, extra: Any) -> Any:
            return activation(z + extra[:, :1])

        assert self.activation_of(with_extra, "k:0") in ("silu", "gelu")
        tf1.get_variable_scope().reuse_variables()
        assert self.activation_of(with_extra, "k:0", "extra:0") == "linear"

    def test_where_the_sigmoid_may_broadcast(self) -> None:
        """A row of z for all rows of dL/dy: their product is one of more rows."""
        row = tf1.placeholder(tf.float32, [1, 4])

        @tf.custom_gradient
        def silu(h: Any) -> Any:
            sigmoid = tf.sigmoid(1.0 * row)
            slope = sigmoid * (1.0 + 1.0 * row * (1.0 - sigmoid))
            return tf.identity(h), lambda upstream: upstream * slope

        assert self.activation_of(lambda z, extra: silu(z), "k:0") == "linear"


def _shared_part(z: Any) -> Any:
    """Gelu, of which one factor is a part of the result, too."""
    half = 0.5 * z
    return half * tf.math.erfc(-z * math.sqrt(0.5)) + tf.square(half)


def model_of(activation: Callable[[Any], Any]) -> Model:
    def build(w: Weights, x: Any) -> Any:
        h = activation(dense(w, "low", x, 7))
        return activation(dense(w, "top", h, 5))

    return Model(build, ())


@pytest.mark.parametrize("mode", ["graph", "function"])
@pytest.mark.parametrize(
    ("activation", "joined"),
    [
        (tf.nn.silu, True),
        (lambda z: z * tf.sigmoid(z), True),
        (half_erfc, True),
        (tf.nn.gelu, False),
        (_shared_part, False),
        (lambda z: tf.nn.silu(z) * tf.sigmoid(z), False),
    ],
    ids=["silu", "product", "gelu", "gelu of TensorFlow", "shared part", "silu times sigmoid"],
)
def test_trains_as_the_reference(activation: Callable[[Any], Any], joined: bool, mode: str) -> None:
    model = model_of(activation)
    fused, reference = (train(model, mode, backend) for backend in ("auto", "reference"))
    expected = {("top_k", "low_k")} if joined else {("top_k",), ("low_k",)}
    assert kernels_of(fused.plan) == expected
    for variable, weights in reference.weights.items():
        np.testing.assert_allclose(
            fused.weights[variable], weights, rtol=1e-9, atol=1e-11, err_msg=variable
        )
