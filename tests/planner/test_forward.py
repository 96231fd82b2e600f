"""Which chains' forward passes the fused op runs itself, and that this gives the same step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests import oracle
from tests.op.buffers import addresses
from tests.planner.models import Weights
from tests.planner.steps import run_steps
from tests.planner.walks import all_before, of_type

tf1 = tf.compat.v1
layers = keras.layers

BATCH, WIDTH = 6, 5


@pytest.fixture(autouse=True)
def _on_the_cpu():
    """On GPUs TensorFlow runs the forward pass."""
    with tf.device("/CPU:0"):
        yield


def dense_model(*activations: str, dtype: Any = "float32", **options: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    parts = [
        layers.Dense(WIDTH, activation, bias_initializer="normal", dtype=dtype, **options)
        for activation in activations
    ]
    return keras.Sequential([keras.Input((WIDTH,), dtype=tf.as_dtype(dtype).name), *parts])


@dataclasses.dataclass
class Step:
    """A tf.function(x, seed) that trains a model, and the plan that it follows."""

    model: Any
    optimizer: Any = None
    backend: str = "auto"
    static: bool = False
    dtype: Any = tf.float32
    returns: Callable[[Any], Any] = lambda iv: None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    plan: splitop.Plan = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        variables = self.model.trainable_variables
        self.optimizer = self.optimizer or keras.optimizers.Adam(0.01)
        self.optimizer.build(variables)
        spec = tf.TensorSpec([BATCH if self.static else None, WIDTH], self.dtype)

        @tf.function(autograph=False, input_signature=[spec, spec])
        def run(x: Any, seed: Any) -> Any:
            iv = self.model(x, training=True)
            result = self.returns(iv)
            self.plan = splitop.plan(
                self.optimizer, iv, variables, seed, backend=self.backend, **self.options
            )
            self.plan.apply()
            return result

        self.run = run.get_concrete_function()

    @property
    def forward(self) -> list[bool]:
        return [chain.forward for chain in self.plan.chains]

    def take(self, count: int = 3) -> list[np.ndarray]:
        """The variables, and those of the optimizer, after a few steps."""
        for number in range(count):
            self.run(*batch(number, self.dtype))
        state = [*self.model.trainable_variables, *self.optimizer.variables]
        return [np.asarray(variable) for variable in state]


def batch(number: int = 0, dtype: Any = tf.float32) -> tuple[tf.Tensor, tf.Tensor]:
    """x and a seed."""
    random = np.random.default_rng(number)
    x, seed = random.normal(size=(2, BATCH, WIDTH))
    return tf.constant(x, dtype), tf.constant(seed, dtype)


def assert_same_step(make: Callable[[], Any], dtype: Any = tf.float32, **options: Any) -> Step:
    """Several steps by the fused op and on the reference path; returns the former."""
    fused = Step(make(), dtype=dtype, **options)
    expected = Step(make(), dtype=dtype, backend="reference", **options)
    tolerance = 1e-12 if dtype == tf.float64 else 2e-5
    for value, reference in zip(fused.take(), expected.take(), strict=True):
        np.testing.assert_allclose(value, reference, tolerance, tolerance)
    return fused


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", oracle.ACTIVATIONS)
def test_every_activation(activation: str, dtype: str) -> None:
    if (activation, dtype) == ("gelu", "float64"):
        pytest.skip("TensorFlow's gelu has a coefficient of float32 there: its gradient is no gelu")
    activations = [activation, activation, "tanh"]
    step = assert_same_step(
        lambda: dense_model(*activations, dtype=dtype), tf.as_dtype(dtype), static=True
    )
    assert step.forward == [True]


@pytest.mark.parametrize("top", ["linear", "relu", "leaky_relu"])
@pytest.mark.parametrize("static", [True, False])
def test_every_top(top: str, static: bool) -> None:
    step = assert_same_step(lambda: dense_model("relu", top, use_bias=top == "relu"), static=static)
    assert step.forward == [True]


@pytest.mark.parametrize("activation", oracle.ACTIVATIONS)
def test_on_sequences(activation: str) -> None:
    """TensorFlow runs the forward pass: a reshape is between an activation and the next product."""
    inputs = (2, BATCH, 3, WIDTH)
    batches = list(np.random.default_rng(0).normal(size=inputs).astype("float32"))

    def build(w: Weights, x: Any) -> Any:
        x = w.layer("low", layers.Dense, x, units=WIDTH, activation=activation)
        return w.layer("top", layers.Dense, x, units=WIDTH)

    fused, reference = (
        run_steps("keras", build, lambda: keras.optimizers.SGD(0.1), batches, backend=backend)
        for backend in ("fused", "reference")
    )
    assert fused.plan.chains
    assert not any(chain.forward for chain in fused.plan.chains)
    for (name, value), (_, expected) in zip(fused.values, reference.values, strict=True):
        np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-5, err_msg=name)


def test_the_plan_says_so() -> None:
    text = str(Step(dense_model("relu", "tanh")).plan)
    assert "chain 1, layer 1 of 2, tanh, both passes" in text
    assert "chain 1, layer 2 of 2, relu, both passes" in text


def test_nothing_of_the_forward_pass_is_left() -> None:
    step = Step(dense_model("relu", "tanh"), static=True)
    (chain,) = of_type(step.run.graph, "Splitop>DenseChain")
    needed = {op.type for op in all_before(chain)}
    assert not needed & {"MatMul", "BiasAdd", "Relu", "Tanh"}
    assert chain.get_attr("forward")


def read_elsewhere(iv: Any) -> Any:
    return tf.reduce_sum(iv)


def read_inside(iv: Any) -> Any:
    hidden = next(op for op in iv.graph.get_operations() if op.type == "Relu").outputs[0]
    return tf.reduce_sum(hidden)


@pytest.mark.parametrize("reader", [read_elsewhere, read_inside])
def test_activations_that_are_read_elsewhere(reader: Callable[[Any], Any]) -> None:
    step = Step(dense_model("relu", "tanh"), returns=reader)
    assert step.forward == [False]
    assert_same_step(lambda: dense_model("relu", "tanh"), returns=reader)


def test_a_loss_is_mostly_returned() -> None:
    model, optimizer, plans = dense_model("relu", "tanh"), keras.optimizers.SGD(0.1), []
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def run(x: Any, seed: Any) -> Any:
        loss = tf.reduce_sum(model(x, training=True) * seed)
        plans.append(splitop.plan(optimizer, loss, model.trainable_variables))
        return loss

    run.get_concrete_function(*batch())
    assert [chain.forward for chain in plans[0].chains] == [False]


def test_another_name_of_iv_is_no_reader() -> None:
    assert Step(dense_model("relu", "tanh"), returns=tf.identity).forward == [True]


def test_iv_that_is_returned_is_that_of_before_the_step() -> None:
    model = dense_model("relu", "tanh")
    step = Step(model, returns=tf.identity)
    x, seed = batch()
    expected = model(x)
    np.testing.assert_allclose(step.run(x, seed), expected, 1e-5, 1e-6)
    assert not np.allclose(model(x), expected, 1e-5, 1e-6)


TWO_PASSES = {
    "clipnorm": (dict(clipnorm=0.1), {}),
    "global_clipnorm": (dict(global_clipnorm=0.1), {}),
    "accumulation": (dict(gradient_accumulation_steps=2), {}),
    "skip_nonfinite": ({}, dict(skip_nonfinite=True)),
}


@pytest.mark.parametrize("case", TWO_PASSES)
def test_a_step_in_two_passes(case: str) -> None:
    of_optimizer, options = TWO_PASSES[case]
    optimizer = keras.optimizers.SGD(0.1, **of_optimizer)
    assert Step(dense_model("relu", "tanh"), optimizer, options=options).forward == [False]


def test_clipping_by_value() -> None:
    optimizers = [keras.optimizers.SGD(0.1, clipvalue=0.02) for _ in range(2)]
    fused, expected = (
        Step(dense_model("relu", "tanh"), optimizer, backend)
        for optimizer, backend in zip(optimizers, ["auto", "reference"], strict=True)
    )
    assert fused.forward == [True]
    for value, reference in zip(fused.take(), expected.take(), strict=True):
        np.testing.assert_allclose(value, reference, 2e-5, 2e-5)


def test_large_layers() -> None:
    width, outputs, batch = 1100, 300, 40
    random = np.random.default_rng(7)
    x = tf.constant(random.standard_normal((batch, width)), tf.float32)
    seed = tf.constant(random.standard_normal((batch, outputs)) / batch, tf.float32)
    weights = []
    for backend in ("auto", "reference"):
        keras.utils.set_random_seed(7)
        parts = [layers.Dense(width, "relu"), layers.Dense(outputs, "tanh")]
        model = keras.Sequential([keras.Input((width,)), *parts])
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
        for _ in range(3):
            plan = _take_large_step(model, optimizer, x, seed, backend)
            assert [chain.forward for chain in plan.chains] == [True] * (backend == "auto")
        weights.append(model.get_weights())
    for value, reference in zip(*weights, strict=True):
        np.testing.assert_allclose(value, reference, 2e-5, 2e-6)


def _take_large_step(model, optimizer, x, seed, backend: str) -> splitop.Plan:
    plans = []

    @tf.function(autograph=False)
    def step(x, seed):
        variables = model.trainable_variables
        plans.append(splitop.plan(optimizer, model(x), variables, seed, backend=backend))
        plans[0].apply()

    step(x, seed)
    return plans[0]


def test_mixed_precision_is_tensorflows() -> None:
    model = keras.Sequential(
        [keras.Input((WIDTH,)), layers.Dense(WIDTH, "relu", dtype="mixed_bfloat16")]
    )
    assert Step(model, returns=lambda iv: None, dtype=tf.bfloat16).forward == [False]


def test_a_layer_in_several_places() -> None:
    shared = layers.Dense(WIDTH, "relu")
    model = keras.Sequential([keras.Input((WIDTH,)), shared, shared])
    assert Step(model).forward == [False]


def test_layers_on_more_dimensions() -> None:
    x = keras.Input((WIDTH,))
    model = keras.Model(x, layers.Dense(WIDTH, "relu")(layers.Reshape((1, WIDTH))(x))[:, 0])
    assert Step(model).forward == [False]


class Module(tf.Module):
    """One layer of plain TensorFlow."""

    def __init__(self, forward: Callable[[Any, Any, Any], Any]):
        super().__init__()
        random = np.random.default_rng(3)
        self.kernel = tf.Variable(random.normal(size=(WIDTH, WIDTH)).astype("f4"), name="kernel")
        self.bias = tf.Variable(random.normal(size=WIDTH).astype("f4"), name="bias")
        self._forward = forward

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        return [self.kernel, self.bias]

    def __call__(self, x: Any, training: bool) -> Any:
        return self._forward(x, self.kernel, self.bias)


def plain(x: Any, kernel: Any, bias: Any) -> Any:
    return tf.nn.relu(tf.matmul(x, kernel) + bias)


def scaled_bias(x: Any, kernel: Any, bias: Any) -> Any:
    return tf.nn.relu(tf.matmul(x, kernel) + (bias + tf.stop_gradient(bias)))


def shifted_z(x: Any, kernel: Any, bias: Any) -> Any:
    z = tf.matmul(x, kernel) + bias
    return tf.nn.relu(z + tf.stop_gradient(z))


def another_input(x: Any, kernel: Any, bias: Any) -> Any:
    """The gradient multiplies by x, the forward pass does not."""

    @tf.custom_gradient
    def product(kernel: Any) -> Any:
        return tf.matmul(2 * x, kernel), lambda g: tf.matmul(x, g, transpose_a=True)

    return tf.nn.relu(product(kernel) + bias)


def written_before(x: Any, kernel: Any, bias: Any) -> Any:
    y = plain(x, kernel, bias)
    kernel.assign_add(tf.ones_like(kernel))
    return y


def waiting(x: Any, kernel: Any, bias: Any) -> Any:
    with tf.control_dependencies([tf.debugging.assert_all_finite(x, "x")]):
        return plain(x, kernel, bias)


FORWARDS = {
    plain: True,
    scaled_bias: False,
    shifted_z: False,
    another_input: False,
    written_before: False,
    waiting: False,
}


@pytest.mark.parametrize("forward", FORWARDS)
def test_only_what_is_known_for_sure(forward: Callable[[Any, Any, Any], Any]) -> None:
    """Forward passes whose gradients all look alike."""
    step = assert_same_step(lambda: Module(forward), static=True)
    assert step.forward == [FORWARDS[forward]]


@pytest.mark.parametrize("name", ["kernel", "bias"])
def test_a_write_between_plan_and_apply(name: str) -> None:
    """TensorFlow's forward pass has used the value before it, and so has the step."""
    found = []
    for backend in ("auto", "reference"):
        model = Module(plain)
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)
        run = written_between(model, optimizer, name, backend)
        for number in range(3):
            run(*batch(number))
        found.append([variable.numpy() for variable in model.trainable_variables])
    for value, expected in zip(*found, strict=True):
        np.testing.assert_allclose(value, expected, 2e-5, 2e-5)


def written_between(model: Module, optimizer: Any, name: str, backend: str) -> Any:
    @tf.function(autograph=False)
    def run(x: Any, seed: Any) -> None:
        variables = model.trainable_variables
        plan = splitop.plan(optimizer, model(x, training=True), variables, seed, backend=backend)
        variable = getattr(model, name)
        variable.assign_add(tf.ones_like(variable))
        plan.apply()

    return run


def dropout() -> keras.Model:
    x = keras.Input((WIDTH,))
    h = layers.Dropout(0.3, seed=1)(layers.Dense(WIDTH, "relu")(x))
    return keras.Model(x, layers.Dense(WIDTH, "tanh")(h))


def concatenated() -> keras.Model:
    x = keras.Input((WIDTH,))
    h = layers.Concatenate()([layers.Dense(WIDTH, "relu")(x), x])
    return keras.Model(x, layers.Dense(WIDTH, "tanh")(h))


def two_heads() -> keras.Model:
    x = keras.Input((WIDTH,))
    h = layers.Dense(WIDTH, "relu")(x)
    return keras.Model(x, layers.Add()([layers.Dense(WIDTH, a)(h) for a in ("relu", "tanh")]))


@pytest.mark.parametrize("make", [dropout, concatenated, two_heads])
@pytest.mark.parametrize("static", [True, False])
def test_what_another_chain_is_given_is_not_computed_twice(
    make: Callable[[], Any], static: bool
) -> None:
    def model() -> Any:
        keras.utils.set_random_seed(0)
        return make()

    step = assert_same_step(model, static=static)
    assert len(step.forward) > 1
    assert not step.forward[0]  # The lower one.
    assert static <= any(step.forward)


def towers() -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((WIDTH,))
    shared = layers.Identity()(x)
    return keras.Model(x, layers.Add()([layers.Dense(WIDTH, a)(shared) for a in ("relu", "tanh")]))


def test_two_towers_on_one_input() -> None:
    assert assert_same_step(towers, static=True).forward == [True, True]


def test_a_seed_that_is_computed_from_iv() -> None:
    model = dense_model("relu", "tanh")
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    plans = []

    @tf.function(autograph=False)
    def run(x: Any, target: Any) -> None:
        iv = model(x, training=True)
        plans.append(splitop.plan(optimizer, iv, model.trainable_variables, iv - target))
        plans[-1].apply()

    run(*batch())
    assert [chain.forward for chain in plans[0].chains] == [False]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value: float) -> None:
    x, seed = (tensor.numpy() for tensor in batch())
    x[2, 1] = value
    found = []
    for backend in ("auto", "reference"):
        step = Step(dense_model("elu", "softplus"), keras.optimizers.SGD(0.1), backend, static=True)
        step.run(tf.constant(x), tf.constant(seed))
        found.append([np.isfinite(variable) for variable in step.model.trainable_variables])
    for received, expected in zip(*found, strict=True):
        np.testing.assert_array_equal(received, expected)
    assert not all(finite.all() for finite in found[0])


def test_buffers_stay_in_place() -> None:
    step = Step(dense_model("relu", "tanh"))
    variables = {v.path: v.value for v in step.model.trainable_variables}
    step.take(1)  # the initial values may be shared with constants
    before = addresses(variables)
    step.take(2)
    assert step.forward == [True]
    assert addresses(variables) == before


def test_a_seed_of_another_batch_writes_nothing() -> None:
    step = Step(dense_model("relu", "tanh"))
    assert step.forward == [True]
    before = [np.asarray(v) for v in step.model.trainable_variables]
    x, seed = batch()
    with pytest.raises(tf.errors.InvalidArgumentError, match="SeedError"):
        step.run(x, seed[:2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one row"):
        step.run(x[:0], seed[:0])
    for variable, value in zip(step.model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_tf1_graphs_keep_what_may_be_fed() -> None:
    with tf.Graph().as_default():
        x = tf1.placeholder(tf.float32, [None, WIDTH])
        kernel = tf1.get_variable("k", [WIDTH, WIDTH])
        optimizer = tf1.train.GradientDescentOptimizer(0.1)
        plan = splitop.plan(optimizer, tf.nn.relu(tf.matmul(x, kernel)), [kernel])
    assert [chain.forward for chain in plan.chains] == [False]


def test_inside_xla() -> None:
    model, plans = dense_model("relu", "tanh"), []
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False, jit_compile=True)
    def run(x: Any, seed: Any) -> None:
        variables = model.trainable_variables
        plans.append(splitop.plan(optimizer, model(x, training=True), variables, seed))

    run.get_concrete_function(*batch())
    assert [chain.forward for chain in plans[0].chains] == [True]
