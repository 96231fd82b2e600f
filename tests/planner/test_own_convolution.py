"""Convolutions and pooling whose gradients are ops of splitop's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src import library
from splitop._src.graph.convolutions import match_convolution
from splitop._src.own_convolution import is_faster
from splitop._src.own_gradients import own_gradients
from tests.planner.models import Weights
from tests.planner.steps import FLAVOURS, Steps, run_as_reference
from tests.planner.walks import all_before, of_type

BATCH, SIDE, CHANNELS = 3, 11, 8
Build = Callable[[Weights, Any], Any]


def conv(w: Weights, name: str, x: Any, filters: int = 8, size: Any = 3, **options: Any) -> Any:
    return w.layer(name, keras.layers.Conv2D, x, filters=filters, kernel_size=size, **options)


def norm(w: Weights, name: str, x: Any) -> Any:
    return w.layer(name, keras.layers.BatchNormalization, x)


def stem(w: Weights, x: Any) -> Any:
    """Of which the second convolution has no bias, and the third one wider strides."""
    h = keras.layers.MaxPooling2D(dtype="float64")(conv(w, "a", x, activation="relu"))
    h = tf.nn.relu(norm(w, "norm", conv(w, "b", h, use_bias=False, padding="same")))
    return conv(w, "c", conv(w, "d", h, 5, (2, 3), strides=2, activation="tanh"), 4, 1)


def used_twice(w: Weights, x: Any) -> Any:
    """The same layer on two inputs; what its bias is added to is used twice, too."""
    kernel, bias = w("kernel", 3, 3, CHANNELS, CHANNELS), w("bias", CHANNELS)

    def layer(x: Any) -> Any:
        z = tf.nn.conv2d(x, kernel, 1, "SAME")
        return tf.nn.relu(tf.nn.bias_add(z, bias)) + tf.reduce_mean(z)

    return layer(layer(x))


def pools(w: Weights, x: Any) -> Any:
    """Windows that overlap, and that have no elements in common with others."""
    h = tf.nn.max_pool2d(conv(w, "a", x), 3, 1, "SAME")
    return tf.nn.max_pool2d(h, [2, 3], [3, 4], "VALID")


def grouped(w: Weights, x: Any) -> Any:
    return conv(w, "a", x, groups=2)


def in_one_dimension(w: Weights, x: Any) -> Any:
    h = tf.reshape(x, [-1, SIDE * SIDE, CHANNELS])
    return w.layer("a", keras.layers.Conv1D, h, filters=4, kernel_size=5, activation="relu")


def depthwise(w: Weights, x: Any) -> Any:
    return w.layer("a", keras.layers.DepthwiseConv2D, x, kernel_size=3)


def transposed(w: Weights, x: Any) -> Any:
    return w.layer("a", keras.layers.Conv2DTranspose, x, filters=4, kernel_size=3)


def _run(build: Build, flavour: str = "keras", **options: Any) -> Steps:
    batches = list(np.random.default_rng(0).normal(size=(3, BATCH, SIDE, SIDE, CHANNELS)))
    return run_as_reference(build, flavour, batches, 0.01, **options)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    ("build", "filters", "pooled"),
    [(stem, 4, 1), (used_twice, 2, 0), (pools, 1, 2), (in_one_dimension, 1, 0)],
)
def test_the_same_step(build: Build, filters: int, pooled: int, flavour: str, static: bool) -> None:
    fused = _run(build, flavour, static=static).fused_ops
    # A session may have run the graph already.
    assert (fused["Conv2DFilterGrad"] >= filters) == (flavour == "keras")
    assert (fused["MaxPoolGrad"] >= pooled) == (flavour == "keras" or pooled == 0)


@pytest.mark.parametrize("build", [grouped, depthwise, transposed])
def test_other_convolutions(build: Build) -> None:
    assert _run(build).fused_ops["Conv2DFilterGrad"] == 0


def test_xla_makes_its_own() -> None:
    fused = _run(stem, jit=True).fused_ops
    assert fused["Conv2DFilterGrad"] == fused["MaxPoolGrad"] == 0


class Model:
    """A small network of images."""

    def __init__(self) -> None:
        keras.utils.set_random_seed(0)
        layers = keras.layers
        x = keras.Input((SIDE, SIDE, CHANNELS), dtype="float64")
        h = layers.Conv2D(8, 3, activation="relu", dtype="float64")(x)
        h = layers.MaxPooling2D(dtype="float64")(h)
        h = layers.Conv2D(8, 2, padding="same", activation="relu", dtype="float64")(h)
        self.keras = keras.Model(x, layers.Dense(3, dtype="float64")(layers.Flatten()(h)))
        random = np.random.default_rng(0)
        self.x = tf.constant(random.normal(size=(BATCH, SIDE, SIDE, CHANNELS)))
        self.seed = tf.constant(random.normal(size=(BATCH, 3)))

    @property
    def variables(self) -> list[Any]:
        return self.keras.trainable_variables


def _kind(op: Any) -> str:
    is_of_relu = op.type == "Splitop>MaxPoolGrad" and op.get_attr("activation") == b"relu"
    return op.type + " of relu" * is_of_relu


def _trained(function: Any, backend: str) -> tuple[list[np.ndarray], Any]:
    """The variables after a step, and what it is computed from."""
    model, optimizer = Model(), keras.optimizers.Adam(0.01)
    optimizer.build(model.variables)

    @function(autograph=False)
    def step(x: Any) -> Any:
        iv = model.keras(x)
        splitop.minimize(optimizer, iv, model.variables, model.seed, backend=backend)
        return iv

    iv = step(model.x).numpy()
    graph = step.get_concrete_function(model.x).graph
    fused = [op for op in of_type(graph, "Splitop>") if op.op_def.is_stateful]
    needed = {_kind(op) for op in all_before(*fused)}
    return [iv, *(variable.numpy() for variable in model.variables)], needed


@pytest.mark.parametrize("function", [tf.function, splitop.function])
def test_what_the_step_needs(function: Any) -> None:
    expected, none = _trained(function, "reference")
    received, needed = _trained(function, "fused")
    assert not none
    assert {"Splitop>Conv2DFilterGrad", "Splitop>Conv2DInputGrad"} <= needed
    assert "Splitop>MaxPoolGrad of relu" in needed
    assert not {"Conv2DBackpropFilter", "Conv2DBackpropInput", "BiasAddGrad"} & needed
    # At the end of a trace of its own, TensorFlow's forward pass is replaced, too.
    own = function is splitop.function
    assert ("Splitop>Conv2D" in needed) == own
    assert ("Conv2D" in needed) != own
    for value, reference in zip(received, expected, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("function", [tf.function, splitop.function])
def test_tapes_around_the_function(function: Any) -> None:
    """Of the first and the second order, and forward mode, as with the layers alone."""
    model, optimizer = Model(), keras.optimizers.SGD(0.0)
    optimizer.build(model.variables)

    def trains(x: Any) -> Any:
        iv = model.keras(x)
        splitop.minimize(optimizer, iv, model.variables, model.seed, backend="fused")
        return iv

    received = []
    for call in (function(trains, autograph=False), model.keras):
        with tf.GradientTape() as outer:
            outer.watch(model.x)
            with tf.GradientTape() as inner:
                inner.watch(model.x)
                total = tf.reduce_sum(call(model.x) ** 3)
            first = inner.gradient(total, model.x)
            second = tf.reduce_sum(tf.sin(first))
        with tf.autodiff.ForwardAccumulator(model.x, tf.sin(model.x)) as forward:
            iv = call(model.x)
        received.append([first, outer.gradient(second, model.x), forward.jvp(iv)])
    for fused, expected in zip(*received, strict=True):
        np.testing.assert_allclose(fused, expected, rtol=1e-9, atol=1e-9)


def test_gradients_that_start_and_end_inside() -> None:
    """And the graph is as it was after that."""
    random = np.random.default_rng(0)
    x = tf.constant(random.normal(size=(2, 7, 7, CHANNELS)))
    weights = tf.constant(random.normal(size=(3, 3, CHANNELS, CHANNELS)))
    bias = tf.constant(random.normal(size=CHANNELS))

    @tf.function(autograph=False)
    def run() -> Any:
        low = tf.sin(x)
        z = tf.nn.conv2d(low, weights, 1, "SAME")
        shifted = tf.nn.bias_add(z, bias)
        pooled = tf.nn.max_pool2d(tf.nn.relu(shifted), 2, 2, "VALID")
        ways = [(pooled, [z, low]), (shifted, [low]), (z, [low]), (pooled, [shifted, low])]
        received = []
        for y, xs in ways:
            with own_gradients(y.graph, [y], xs) as ivs:
                received.append(tf.gradients(ivs, xs))
        kinds = [tensor.op.type for result in received for tensor in result]
        assert {"Splitop>Conv2DInputGrad", "Splitop>MaxPoolGrad"} <= {*kinds}
        expected = [tf.gradients(y, xs) for y, xs in ways]
        assert not any("Splitop>" in tensor.op.type for each in expected for tensor in each)
        for op in (pooled.op, pooled.op.inputs[0].op):
            assert "_gradient_op_type" not in op.node_def.attr
        return received, expected

    for received, expected in zip(*map(tf.nest.flatten, run()), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-9, atol=1e-11)


@tf.RegisterGradient("TestTwiceThatOfRelu")
def _twice_that_of_relu(op: Any, dy: Any) -> Any:
    return 2 * tf.raw_ops.ReluGrad(gradients=dy, features=op.outputs[0])


@pytest.mark.parametrize(
    ("way", "kind"),
    [
        ("alone", "Splitop>MaxPoolGrad"),
        ("pooled twice", "ReluGrad"),
        ("used after it", "ReluGrad"),
        ("pooled after it", "ReluGrad"),
        ("pooled as a part of another tensor", "ReluGrad"),
        ("with another gradient", "Mul"),
    ],
)
def test_relu_before_pooling(way: str, kind: str) -> None:
    """Its gradient is that of pooling, unless something else has a part in it."""

    def pool(y: Any, size: int = 2) -> Any:
        return tf.nn.max_pool2d(y, size, 2, "SAME")

    @tf.function(autograph=False)
    def run(x: Any) -> Any:
        z = tf.sin(x)
        theirs = {"Relu": "TestTwiceThatOfRelu"} if way == "with another gradient" else {}
        with z.graph.gradient_override_map(theirs):
            y = tf.nn.relu(z)
        total = {
            "pooled twice": lambda: tf.concat([pool(y), pool(y, 3)], 3),
            "used after it": lambda: tf.reduce_sum(y) + pool(y),
            "pooled after it": lambda: pool(tf.cos(y)),
            "pooled as a part of another tensor": lambda: (
                pool(y + tf.ones(y.shape, y.dtype)) + tf.stop_gradient(pool(y))
            ),
        }.get(way, lambda: pool(y))()
        seed = tf.sin(total)
        with own_gradients(y.graph, [total], [z]) as ivs:
            (received,) = tf.gradients(ivs, [z], seed)
        assert received.op.type == kind
        return received, *tf.gradients(total, [z], seed)

    received, expected = run(tf.random.normal([2, 7, 7, CHANNELS], dtype=tf.float64, seed=1))
    np.testing.assert_allclose(received, expected, rtol=1e-12)
    assert np.abs(expected).max() > 0


def test_which_convolution_is_matched() -> None:
    """The whole of what follows it, as long as nothing else takes what is between."""

    @tf.function(autograph=False)
    def run(x: Any, weights: Any, bias: Any) -> Any:
        z = tf.nn.conv2d(x, weights, 1, "VALID")
        shifted = tf.nn.bias_add(z, bias)
        y = tf.nn.relu(shifted)
        for activated, whole in ((True, y), (False, shifted)):
            matched = [
                found.y
                for op in (z.op, shifted.op, y.op)
                if (found := match_convolution(op, activated=activated)) is not None
            ]
            assert len(matched) == 1
            assert matched[0] is whole
        other = tf.nn.relu(z)  # takes z, too
        found = match_convolution(z.op, activated=True)
        assert found is not None
        assert found.bias is None
        assert found.activation == "linear"
        assert match_convolution(y.op, activated=True) is None
        assert match_convolution(other.op, activated=True) is None
        return y, other

    spec = [tf.TensorSpec(s) for s in ([2, 5, 5, 3], [3, 3, 3, 4], [4])]
    run.get_concrete_function(*spec)


@pytest.mark.parametrize(
    ("weights", "faster"),
    [
        ([3, 3, 8, 4], True),
        ([1, 1, 8, 4], False),
        ([3, 3, 128, 4], True),
        ([3, 3, 129, 4], False),
        ([3, 3, 8, 3], False),
    ],
)
def test_which_forward_pass_is_replaced(
    weights: Any, faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = tf.Graph()
    with graph.as_default():
        x = tf.zeros([2, 5, 5, weights[2]])
        found = match_convolution(tf.nn.conv2d(x, tf.zeros(weights), 1, "SAME").op, activated=True)
    assert found is not None
    port = "splitop._src.own_convolution._pywrap_util_port.IsMklEnabled"
    monkeypatch.setattr(port, lambda: False)
    assert is_faster(found) == faster
    monkeypatch.setattr(port, lambda: True)
    assert not is_faster(found)


def test_a_step_that_was_traced_before_xla_compiles_it() -> None:
    if library.xla_reason() is not None:
        pytest.skip(str(library.xla_reason()))
    library.load_xla()
    weights = []
    for jit in (False, True):
        model, optimizer = Model(), keras.optimizers.SGD(0.1)
        optimizer.build(model.variables)

        @splitop.function(autograph=False)
        def step(model: Any = model, optimizer: Any = optimizer) -> None:
            iv = model.keras(model.x)
            splitop.minimize(optimizer, iv, model.variables, model.seed, backend="fused")

        traced = step.get_concrete_function()
        assert of_type(traced.graph, "Splitop>Conv2DFilterGrad")
        tf.function(lambda traced=traced: traced(), autograph=False, jit_compile=jit)()
        weights.append([variable.numpy() for variable in model.variables])
    for inside, outside in zip(*weights, strict=True):
        np.testing.assert_allclose(inside, outside, rtol=1e-9, atol=1e-11)
