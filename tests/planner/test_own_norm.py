"""Layer normalization whose gradient is an op of splitop's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src import library
from splitop._src.graph.layer_norms import match_layer_norm
from splitop._src.own_gradients import own_gradients
from tests.planner.models import Weights
from tests.planner.steps import FLAVOURS, Steps, run_as_reference
from tests.planner.walks import all_before, of_type

BATCH, TIME, WIDTH = 5, 7, 8
Build = Callable[[Weights, Any], Any]


def layer_norm(w: Weights, name: str, x: Any, **options: Any) -> Any:
    return w.layer(name, keras.layers.LayerNormalization, x, **options)


def before_and_after(w: Weights, x: Any) -> Any:
    """A block with its norms before and after, each of whose results is used twice."""
    h = layer_norm(w, "first", x, epsilon=0.01)
    h = layer_norm(w, "second", h + w.layer("mlp", keras.layers.Dense, h, units=WIDTH))
    h = h + w.layer("mha", keras.layers.MultiHeadAttention, h, h, num_heads=2, key_dim=3)
    return layer_norm(w, "last", h)


def one_upon_the_other(w: Weights, x: Any) -> Any:
    h = w.layer("low", keras.layers.Dense, x, units=WIDTH)
    return layer_norm(w, "b", layer_norm(w, "a", h)) * 2.0


def other_axes(w: Weights, x: Any) -> Any:
    return layer_norm(w, "norm", w.layer("low", keras.layers.Dense, x, units=WIDTH), axis=[1, 2])


def without_scale(w: Weights, x: Any) -> Any:
    h = w.layer("low", keras.layers.Dense, x, units=WIDTH)
    return layer_norm(w, "norm", h, scale=False)


def _run(build: Build, flavour: str = "keras", **options: Any) -> Steps:
    batches = list(np.random.default_rng(0).normal(size=(3, BATCH, TIME, WIDTH)))
    return run_as_reference(build, flavour, batches, 0.01, **options)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(("build", "norms"), [(before_and_after, 3), (one_upon_the_other, 2)])
def test_the_same_step(build: Build, norms: int, flavour: str, static: bool) -> None:
    fused = _run(build, flavour, static=static).fused_ops
    # A session may have run the graph already.
    assert (fused["LayerNormGrad"] >= norms) == (flavour == "keras")


@pytest.mark.parametrize("build", [other_axes, without_scale])
def test_other_norms(build: Build) -> None:
    assert _run(build).fused_ops["LayerNormGrad"] == 0


def test_xla_makes_its_own() -> None:
    assert _run(before_and_after, jit=True).fused_ops["LayerNormGrad"] == 0


class Model:
    """A norm between two dense layers, by variables of its own."""

    def __init__(self) -> None:
        keras.utils.set_random_seed(0)
        x = keras.Input((TIME, WIDTH), dtype="float64")
        h = keras.layers.Dense(WIDTH, dtype="float64")(x)
        self.norm = keras.layers.LayerNormalization(dtype="float64")
        self.top = keras.layers.Dense(3, dtype="float64")
        self.low = keras.Model(x, h)
        self.low.build((None, TIME, WIDTH))
        self.norm.build((None, TIME, WIDTH))
        self.top.build((None, TIME, WIDTH))
        random = np.random.default_rng(0)
        self.x = tf.constant(random.normal(size=(BATCH, TIME, WIDTH)))
        self.seed = tf.constant(random.normal(size=(BATCH, TIME, 3)))

    @property
    def variables(self) -> list[Any]:
        return [
            variable
            for layer in (self.low, self.norm, self.top)
            for variable in layer.trainable_variables
        ]


Step = Callable[[Model, Callable[[Any], Any]], Any]


def _check(step: Step, function: Any) -> Any:
    """Compares the step with the reference's; returns its graph."""
    results, graphs = [], []
    for backend in ("reference", "fused"):
        model, optimizer = Model(), keras.optimizers.Adam(0.01)
        optimizer.build(model.variables)

        def minimize(
            iv: Any, model: Any = model, optimizer: Any = optimizer, backend: str = backend
        ) -> None:
            splitop.minimize(optimizer, iv, model.variables, model.seed, backend=backend)

        run = function(lambda m=model, f=minimize: step(m, f), autograph=False)
        returned = [np.asarray(each) for each in tf.nest.flatten(run()) if each is not None]
        results.append(returned + [variable.numpy() for variable in model.variables])
        graphs.append(run.get_concrete_function().graph)
    assert not of_type(graphs[0], "Splitop>")
    for expected, received in zip(*results, strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-9, atol=1e-11)
    return graphs[1]


def _trained_by(graph: Any) -> set[str]:
    fused = [op for op in of_type(graph, "Splitop>") if op.op_def.is_stateful]
    return {op.type for op in all_before(*fused)}


@pytest.mark.parametrize("function", [tf.function, splitop.function])
def test_what_the_step_needs(function: Any) -> None:
    def step(model: Model, minimize: Any) -> None:
        minimize(model.top(model.norm(model.low(model.x))))

    needed = _trained_by(_check(step, function))
    assert "Splitop>LayerNormGrad" in needed
    # At the end of a trace of its own, TensorFlow's forward pass is replaced, too.
    own = function is splitop.function
    assert ("Splitop>LayerNorm" in needed) == own
    assert ("SquaredDifference" in needed) != own


@pytest.mark.parametrize("function", [tf.function, splitop.function])
def test_other_gradients_before_and_after(function: Any) -> None:
    """The graph is as it was when the step is there."""

    def step(model: Model, minimize: Any) -> Any:
        low = model.low(model.x)
        h = model.norm(low)
        iv = model.top(h)
        before = tf.gradients(iv, [h, low])
        minimize(iv)
        after = tf.gradients(iv, [h, low, model.x])
        return before, after, tf.gradients(after[1], model.x), h

    _check(step, function)


def _trains(model: Model, x: Any, optimizer: Any) -> Any:
    iv = model.top(model.norm(model.low(x)))
    splitop.minimize(optimizer, iv, model.variables, model.seed, backend="fused")
    return iv


@pytest.mark.parametrize("function", [tf.function, splitop.function])
def test_tapes_around_the_function(function: Any) -> None:
    """Of the first and the second order, and forward mode, as with the layers alone."""
    model, optimizer = Model(), keras.optimizers.SGD(0.0)
    optimizer.build(model.variables)
    run = function(lambda x: _trains(model, x, optimizer), autograph=False)
    received = []
    for call in (run, lambda x: model.top(model.norm(model.low(x)))):
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


def test_a_function_that_is_called_in_the_midst_of_another() -> None:
    """What it is made of changes nothing of the caller's graph."""
    model = Model()
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.variables)

    @splitop.function(autograph=False)
    def train(x: Any, h: Any) -> None:
        iv = model.top(h)
        splitop.minimize(optimizer, iv, model.top.trainable_variables, model.seed)

    @tf.function(autograph=False)
    def run(x: Any) -> Any:
        h = model.norm(model.low(x))
        total = tf.reduce_sum(model.top(h) ** 2)
        train.python_function(x, h)
        return tf.gradients(total, [h, x])

    assert all(np.abs(each).max() > 0 for each in run(model.x))


def test_a_gradient_that_ends_inside() -> None:
    """At the result of a norm, or before it: at what the norm replaced, it would end nowhere."""
    model = Model()

    @tf.function(autograph=False)
    def run() -> Any:
        low = model.low(model.x)
        h = model.norm(low)
        iv = model.top(h)
        with own_gradients(iv.graph, [iv], [h, low]) as ivs:
            inside = tf.gradients(ivs, [h, low])
        with own_gradients(iv.graph, [h], [low]) as ivs:
            assert ivs[0].op.type == "Splitop>LayerNorm"
            before = tf.gradients(ivs, low)
        return [inside, before], [tf.gradients(iv, [h, low]), tf.gradients(h, low)]

    for received, expected in zip(*map(tf.nest.flatten, run()), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-9, atol=1e-11)


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
            iv = model.top(model.norm(model.low(model.x)))
            splitop.minimize(optimizer, iv, model.variables, model.seed, backend="fused")

        traced = step.get_concrete_function()
        assert {"Splitop>LayerNorm", "Splitop>LayerNormGrad"} <= _trained_by(traced.graph)
        tf.function(lambda traced=traced: traced(), autograph=False, jit_compile=jit)()
        weights.append([variable.numpy() for variable in model.variables])
    for inside, outside in zip(*weights, strict=True):
        np.testing.assert_allclose(inside, outside, rtol=1e-9, atol=1e-11)


def _match(build: Callable[[Any, Any, Any], Any]) -> Any:
    with tf.Graph().as_default():
        x = tf.compat.v1.placeholder(tf.float32, [None, TIME, WIDTH])
        gamma, beta = (tf.compat.v1.placeholder(tf.float32, [WIDTH]) for _ in range(2))
        return match_layer_norm(build(x, gamma, beta).op)


def _norm(
    x: Any, gamma: Any, beta: Any, axes: Any = (-1,), keepdims: bool = True, other: Any = None
) -> Any:
    mean, variance = tf.nn.moments(x, list(axes), keepdims=keepdims)
    inverse = tf.math.rsqrt(variance + 1e-3) * gamma
    return (x if other is None else other) * inverse + (-mean * inverse + beta)


def test_what_is_a_layer_norm() -> None:
    assert _match(_norm) is not None
    assert _match(lambda *args: _norm(*args, axes=(2,))) is not None
    assert _match(lambda x, gamma, beta: beta + 0.0) is None
    assert _match(lambda *args: _norm(*args, axes=(1,))) is None
    assert _match(lambda *args: _norm(*args, axes=(1, 2))) is None
    assert _match(lambda x, *args: _norm(x, *args, other=x + 1.0)) is None
    assert _match(lambda x, gamma, beta: _norm(x, gamma, beta[:1])) is None
    assert _match(lambda x, gamma, beta: _norm(x, gamma[None], beta)) is None
    reshaped = [(1, 1, WIDTH), (1, WIDTH), (1, 1, 1, WIDTH)]
    found = [
        _match(lambda x, gamma, beta, to=to: _norm(x, tf.reshape(gamma, to), beta))
        for to in reshaped
    ]
    assert [norm is not None for norm in found] == [True, True, False]
