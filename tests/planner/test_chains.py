"""Chains of dense layers in every way that they are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf

import splitop
from tests.planner.models import ACTIVATIONS

tf1 = tf.compat.v1

SIZES = (8, 7, 6, 5, 4)
SHAPES = {"rank 2": (None, 8), "rank 2, static": (6, 8), "rank 3": (None, 3, 8)}


def keras_layer(x: Any, units: int, activation: str, bias: bool, name: str) -> Any:
    return keras.layers.Dense(units, activation, use_bias=bias, name=name)(x)


def plus(x: Any, units: int, activation: str, bias: bool, name: str) -> Any:
    with tf1.variable_scope(name):
        z = tf.tensordot(x, tf1.get_variable("kernel", [x.shape[-1], units]), 1)
        if bias:
            z = z + tf1.get_variable("bias", [units])
    return ACTIVATIONS[activation](z)


def bias_add(x: Any, units: int, activation: str, bias: bool, name: str) -> Any:
    with tf1.variable_scope(name):
        z = tf1.matmul(x, tf1.get_variable("kernel", [x.shape[-1], units]))
        if bias:
            z = tf1.nn.bias_add(z, tf1.get_variable("bias", [units]))
    return ACTIVATIONS[activation](z)


def identities(x: Any, units: int, activation: str, bias: bool, name: str) -> Any:
    return tf.identity(plus(tf.identity(x), units, activation, bias, name))


def resource_variables(x: Any, units: int, activation: str, bias: bool, name: str) -> Any:
    with tf.name_scope(f"{name}/"):
        kernel = tf.Variable(tf.zeros([x.shape[-1], units]), name="kernel")
        z = tf.tensordot(x, kernel.read_value(), 1)
        if bias:
            z += tf.Variable(tf.zeros([units]), name="bias")
    return ACTIVATIONS[activation](z)


WAYS = [keras_layer, plus, bias_add, identities, resource_variables]
CASES = [
    pytest.param(way, shape, id=f"{way.__name__}, {kind}")
    for way in WAYS
    for kind, shape in SHAPES.items()
]


def plan_chain(
    way: Callable[..., Any], shape: Any, activations: list[str], bias: bool
) -> splitop.Plan:
    """The plan of a chain, built in a TF1 graph; `activations` from the bottom up."""
    with tf.Graph().as_default():
        h = tf1.placeholder(tf.float32, shape, "x")
        for number, activation in enumerate(activations):
            h = way(h, SIZES[number + 1], activation, bias, f"layer_{number}")
        seed = tf1.placeholder(tf.float32, h.shape, "seed")
        variables = tf1.trainable_variables()
        return splitop.plan(tf1.train.AdamOptimizer(), h, variables, seed, backend="fused")


def expected(activations: list[str], bias: bool) -> tuple[splitop.PlannedLayer, ...]:
    return tuple(
        splitop.PlannedLayer(
            f"layer_{number}/kernel:0", f"layer_{number}/bias:0" if bias else None, activation
        )
        for number, activation in reversed(list(enumerate(activations)))
    )


@pytest.mark.parametrize(("way", "shape"), CASES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_every_activation_in_one_chain(way: Any, shape: Any, bias: bool) -> None:
    kinds = list(ACTIVATIONS)
    for start in range(0, len(kinds), 3):
        activations = kinds[start : start + 3]
        plan = plan_chain(way, shape, activations, bias)
        assert plan.chains == (splitop.PlannedChain(expected(activations, bias), False),)


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_every_length(length: int, activation: str) -> None:
    plan = plan_chain(plus, (None, 8), [activation] * length, bias=True)
    assert plan.chains == (splitop.PlannedChain(expected([activation] * length, True), False),)
    assert plan.declined == {}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_keras_activations_in_a_tf_function(activation: str) -> None:
    layers = [keras.layers.Dense(5, activation), keras.layers.Dense(4, activation)]
    model = keras.Sequential(layers)
    model.build((None, 8))
    optimizer, plans = keras.optimizers.Adam(), []

    @tf.function(input_signature=[tf.TensorSpec((None, 8))])
    def step(x: Any) -> None:
        plans.append(splitop.plan(optimizer, model(x), model.trainable_variables))

    step.get_concrete_function()
    (chain,) = plans[0].chains
    assert [layer.activation for layer in chain.layers] == [activation] * 2
    assert [layer.kernel for layer in chain.layers] == [layer.kernel.path for layer in layers[::-1]]
    assert [layer.bias for layer in chain.layers] == [layer.bias.path for layer in layers[::-1]]


@pytest.mark.usefixtures("graph")
class TestTheActivationStaysOutside:
    """If anything else needs the gradient behind it, TensorFlow computes it."""

    def activation_of(self, iv: Any, *names: str) -> str:
        variables = [variable for variable in tf1.trainable_variables() if variable.name in names]
        plan = splitop.plan(tf1.train.AdamOptimizer(), iv, variables)
        return plan.chains[0].layers[0].activation

    def test_for_another_layer(self) -> None:
        x = tf.ones([6, 8])
        a, b = tf1.get_variable("a", [8, 4]), tf1.get_variable("b", [8, 4])
        iv = tf.nn.relu(tf.matmul(x, a) + tf.matmul(tf.sin(x), b))
        assert self.activation_of(iv, "a:0", "b:0") == "linear"
        # A layer that is not trained needs no gradient.
        assert self.activation_of(iv, "a:0") == "relu"

    def test_for_a_bias_that_is_declined(self) -> None:
        z = tf.matmul(tf.ones([6, 8]), tf1.get_variable("k", [8, 4]))
        row, bias = tf1.get_variable("row", [1]), tf1.get_variable("b", [4])
        assert self.activation_of(tf.nn.relu(z + row), "k:0", "row:0") == "linear"
        assert self.activation_of(tf.nn.relu(z + bias), "k:0", "b:0") == "relu"

    def test_not_for_a_product_that_is_no_softplus(self) -> None:
        z = tf.matmul(tf.ones([6, 8]), tf1.get_variable("k", [8, 4]))
        gate = tf.nn.sigmoid(tf1.placeholder(tf.float32, [None, 4]))
        assert self.activation_of(z * gate, "k:0") == "linear"
