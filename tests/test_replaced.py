"""Products that ops of splitop's make in a function, seen from the rest of its graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src import own_product, replaced
from tests.planner.walks import all_before, of_type

BATCH, TIME, WIDTH = 3, 5, 4
PRODUCTS = {"BatchMatMulV2", "Einsum", "MatMul"}


class Model:
    """Attention on a projection, by variables of its own."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.weights = [tf.Variable(random.normal(size=(WIDTH, WIDTH))) for _ in range(2)]
        self.x = tf.constant(random.normal(size=(BATCH, TIME, WIDTH)))
        self.seed = tf.constant(random.normal(size=(BATCH, TIME, WIDTH)))

    def projected(self) -> Any:
        return tf.matmul(self.x, self.weights[0])

    def attention(self, h: Any) -> Any:
        return tf.einsum("zab,zbc->zac", tf.nn.softmax(tf.einsum("zab,zcb->zac", h, h)), h)

    def iv(self) -> Any:
        return tf.tanh(tf.matmul(self.attention(self.projected()), self.weights[1]))


Step = Callable[[Model, Callable[[Any], Any]], Any]


def _run(step: Step, backend: str) -> tuple[list[np.ndarray], Any]:
    """What a tf.function that trains has returned and written, and its graph."""
    model = Model()
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.weights)

    @splitop.function(autograph=False)
    def run() -> Any:
        return step(
            model,
            lambda iv: splitop.minimize(optimizer, iv, model.weights, model.seed, backend=backend),
        )

    returned = [np.asarray(value) for value in tf.nest.flatten(run()) if value is not None]
    written = [variable.numpy() for variable in model.weights]
    return returned + written, run.get_concrete_function().graph


def _check(step: Step) -> Any:
    """Compares the step with the reference's; returns its graph."""
    expected, plain = _run(step, "reference")
    received, graph = _run(step, "fused")
    assert not of_type(plain, "Splitop>")
    for value, reference in zip(received, expected, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-11)
    return graph


def _trained_by(graph: Any) -> set[str]:
    """The types of the operations that the fused ops need."""
    return {op.type for op in all_before(*of_type(graph, "Splitop>DenseChain"))}


def test_tensorflows_are_not_needed() -> None:
    def step(model: Model, minimize: Any) -> None:
        minimize(model.iv())

    graph = _check(step)
    assert {"Splitop>Einsum", "Splitop>Softmax"} <= _trained_by(graph)
    assert not _trained_by(graph) & (PRODUCTS | {"Softmax"})


def test_results_that_the_function_returns() -> None:
    """Those of products, and what is computed from them, before the step and after it."""

    def step(model: Model, minimize: Any) -> Any:
        h = model.projected()
        top = tf.matmul(model.attention(h), model.weights[1])
        before = tf.reduce_sum(h)
        minimize(tf.tanh(top))
        return h, top, before, tf.reduce_max(top)

    assert not _trained_by(_check(step)) & PRODUCTS


def test_other_gradients_after_the_step() -> None:
    """Through the ops that stand for the products, and once more through that gradient."""

    def step(model: Model, minimize: Any) -> Any:
        h = model.projected()
        iv = tf.tanh(tf.matmul(model.attention(h), model.weights[1]))
        kernel = tf.identity(model.weights[1])
        other = tf.reduce_sum(tf.matmul(model.attention(h), kernel) * iv)
        minimize(iv)
        once = tf.gradients(other, [h, kernel, model.x])
        return once, tf.gradients(once[0], model.x)

    _check(step)


def test_a_tape_around_the_step() -> None:
    def step(model: Model, minimize: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(model.x)
            iv = model.iv()
        minimize(iv)
        return tape.gradient(iv, model.x)

    _check(step)


def test_a_step_that_waits_for_the_forward_pass() -> None:
    """The new op does not, or the product would wait for itself."""

    def step(model: Model, minimize: Any) -> Any:
        iv = model.iv()
        with tf.control_dependencies([iv.op]):
            minimize(iv)

    assert not _trained_by(_check(step)) & {"Einsum", "BatchMatMulV2"}


@pytest.mark.parametrize("waits", [False, True])
def test_operations_that_wait(waits: bool) -> None:
    """A product that waits for another operation, or that another one waits for, stays."""

    def step(model: Model, minimize: Any) -> Any:
        first, kernel = tf.reduce_sum(model.x), tf.identity(model.weights[0])
        with tf.control_dependencies([first.op] if waits else []):
            h = tf.matmul(model.x, kernel)
        with tf.control_dependencies([] if waits else [h.op]):
            last = tf.identity(first)
        minimize(tf.tanh(tf.matmul(model.attention(h), model.weights[1])))
        return last

    assert "BatchMatMulV2" in _trained_by(_check(step))


def test_a_condition_and_a_loop_that_take_a_product() -> None:
    def step(model: Model, minimize: Any) -> Any:
        h = model.projected()
        h = tf.cond(tf.reduce_sum(model.x) > 0, lambda: h * 2.0, lambda: h * 3.0)
        h = tf.matmul(h, tf.ones([WIDTH, WIDTH], h.dtype))
        _, h = tf.while_loop(lambda i, _: i < 3, lambda i, r: (i + 1, tf.sin(r) + h), (0, h))
        iv = tf.tanh(tf.matmul(h, model.weights[1]))
        minimize(iv)
        return tf.gradients(iv, model.x)

    _check(step)


def _dense(x: Any, weights: list[Any], bias: Any, before: bool = False) -> Any:
    """relu(x W + b) of rows that are the last dimension of x, by way of matrices."""
    z = tf.reshape(tf.matmul(tf.reshape(x, [-1, WIDTH]), weights[0]), tf.shape(x))
    return tf.nn.relu(bias + z if before else tf.nn.bias_add(z, bias))


def _scores(x: Any, weights: list[Any], bias: Any) -> Any:
    """A product for each member of the batch, and what is added to each of its columns."""
    h = tf.matmul(x, weights[0])
    scores = tf.einsum("zab,zcb->zac", h, h) + tf.ones(TIME, x.dtype)
    return tf.einsum("zab,zbc->zac", scores, h) * bias


def _heads(x: Any, weights: list[Any], bias: Any) -> Any:
    z = tf.reshape(tf.matmul(x, weights[0]), [-1, TIME, 2, WIDTH // 2])
    return tf.reshape(z + tf.reshape(bias, [2, WIDTH // 2]), tf.shape(x))


def _positions(x: Any, weights: list[Any], bias: Any) -> Any:
    return tf.matmul(x, weights[0]) + bias * tf.ones([TIME, WIDTH], bias.dtype)


def _needs_z(x: Any, weights: list[Any], bias: Any) -> Any:
    z = tf.matmul(x, weights[0])
    return tf.nn.relu(z + bias) * z


def _waits(x: Any, weights: list[Any], bias: Any) -> Any:
    z, added = tf.matmul(x, weights[0]), tf.identity(bias)
    with tf.control_dependencies([tf.reduce_sum(x).op]):
        return tf.nn.relu(z + added)


def _in_a_condition(x: Any, weights: list[Any], bias: Any) -> Any:
    z = tf.matmul(x, weights[0])
    return tf.cond(tf.reduce_sum(x) > 0, lambda: z + bias, lambda: z - bias)


def _made_by_a_product(x: Any, weights: list[Any], bias: Any) -> Any:
    rows = tf.matmul(tf.reshape(bias, [1, WIDTH]), weights[0])
    return tf.matmul(x, weights[0]) + tf.reshape(rows, [WIDTH])


def _written_between(x: Any, weights: list[Any], bias: Any) -> Any:
    z = tf.matmul(x, weights[0])
    bias.assign_add(tf.ones_like(bias))
    y = z + bias
    bias.assign_add(tf.ones_like(bias))
    return y


# What is made of x, the weights and the bias, and the operations that stay.
EPILOGUES: dict[str, tuple[Callable[[Any, Any, Any], Any], set[str]]] = {
    "relu": (_dense, set()),
    "bias first": (lambda x, w, b: _dense(x, w, b, before=True), set()),
    "no bias": (lambda x, w, b: tf.nn.relu(tf.matmul(x, w[0])) * b, set()),
    "no relu": (lambda x, w, b: tf.matmul(x, w[0]) + b, set()),
    "another activation": (lambda x, w, b: tf.tanh(tf.matmul(x, w[0]) + b), set()),
    "heads": (_heads, set()),
    "scores": (_scores, set()),
    "positions": (_positions, {"AddV2"}),
    "two biases": (lambda x, w, b: tf.matmul(x, w[0]) + b + 2.0 * b, {"AddV2"}),
    "relu, then a bias": (lambda x, w, b: tf.nn.relu(tf.matmul(x, w[0])) + b, {"AddV2"}),
    "z is needed": (_needs_z, {"AddV2", "Relu"}),
    "twice": (lambda x, w, b: (lambda z: z + z)(tf.matmul(x, w[0])) * b, {"AddV2"}),
    "a matrix of a row": (lambda x, w, b: tf.matmul(x, w[0]) + b[tf.newaxis], {"AddV2"}),
    "waits": (_waits, {"AddV2", "Relu"}),
    "in a condition": (_in_a_condition, {"BatchMatMulV2"}),
    "made by a product": (_made_by_a_product, {"MatMul"}),  # of a vector
    "written between": (_written_between, set()),
}


def _trained(
    make: Callable[[Any, Any, Any], Any], batch: int | None, backend: str
) -> tuple[list[Any], Any]:
    """What a step leaves of y, the weights and the bias; and its graph."""
    model, bias = Model(), tf.Variable(np.linspace(-1, 1, WIDTH))
    variables = [*model.weights, bias]
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(variables)
    spec = tf.TensorSpec([batch, TIME, WIDTH], tf.float64)

    @splitop.function(autograph=False, input_signature=[spec])
    def step(x: Any) -> Any:
        y = make(x, model.weights, bias)
        iv = tf.tanh(tf.matmul(y, model.weights[1]))
        splitop.minimize(optimizer, iv, variables, model.seed, backend=backend)
        return y

    y = step(model.x)
    return [y, *(each.numpy() for each in variables)], step.get_concrete_function().graph


@pytest.mark.parametrize("batch", [BATCH, None])
@pytest.mark.parametrize("name", EPILOGUES)
def test_what_is_done_to_a_product_at_once(name: str, batch: int | None) -> None:
    """A bias, and relu; in the order in which the op does both, and where nobody needs z."""
    make, stays = EPILOGUES[name]
    expected, _ = _trained(make, batch, "reference")
    received, graph = _trained(make, batch, "fused")
    for value, reference in zip(received, expected, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-11)
    assert _trained_by(graph) & {"BiasAdd", "Add", "AddV2", "Relu", *PRODUCTS} == stays


@pytest.mark.parametrize("which", ["z", "with a bias", "both"])
def test_what_the_function_returns_is_made_once(which: str) -> None:
    def make(x: Any, weights: list[Any], bias: Any) -> Any:
        z = tf.matmul(x, weights[0])
        biased = z + bias
        returned.append({"z": [z], "with a bias": [biased], "both": [z, biased]}[which])
        return tf.nn.relu(biased)

    values = []
    for backend in ("reference", "fused"):
        returned: list[Any] = []
        model, bias = Model(), tf.Variable(np.linspace(-1, 1, WIDTH))
        variables = [*model.weights, bias]
        step = _returning(make, returned, model, bias, variables, backend)
        values.append([*step(), *(each.numpy() for each in variables)])
        graph = step.get_concrete_function().graph
    for value, expected in zip(*reversed(values), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-11)
    running = all_before(
        *(each.op for each in graph.outputs), *of_type(graph, "Splitop>DenseChain")
    )
    assert not {op.type for op in running} & PRODUCTS


def _returning(
    make: Any, returned: list[Any], model: Model, bias: Any, variables: list[Any], backend: str
) -> Any:
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(variables)

    @splitop.function(autograph=False)
    def step() -> Any:
        iv = tf.tanh(tf.matmul(make(model.x, model.weights, bias), model.weights[1]))
        splitop.minimize(optimizer, iv, variables, model.seed, backend=backend)
        return returned[-1]

    return step


@tf.RegisterGradient("Splitop test: three times")
def _three_times(op: Any, gradient: Any) -> list[Any]:
    if op.type == "BatchMatMulV2":
        x, kernel = op.inputs
        of_x = tf.matmul(gradient, kernel, transpose_b=True)
        return [3.0 * of_x, 3.0 * tf.einsum("zab,zac->bc", x, gradient)]
    summed = [tf.range(3 - each.shape.rank) for each in op.inputs]  # over what was broadcast
    return [3.0 * tf.reduce_sum(gradient, axes) for axes in summed]


@pytest.mark.parametrize("kind", ["Relu", "AddV2", "BatchMatMulV2", "Softmax"])
def test_operations_with_a_gradient_of_their_own(kind: str) -> None:
    """A tape around the function takes these, and so does the step."""
    results = []
    for backend in ("reference", "fused"):
        model, bias = Model(), tf.Variable(np.linspace(-1, 1, WIDTH))
        variables = [*model.weights, bias]
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(variables)
        step = _overridden(kind, model, bias, variables, optimizer, backend)
        with tf.GradientTape() as tape:
            tape.watch(model.x)
            total = tf.reduce_sum(tf.sin(step(model.x)))
        results.append([tape.gradient(total, model.x), *(each.numpy() for each in variables)])
    for received, expected in zip(*reversed(results), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-9, atol=1e-11)


def _overridden(
    kind: str, model: Model, bias: Any, variables: list[Any], optimizer: Any, backend: str
) -> Any:
    @splitop.function(autograph=False)
    def step(x: Any) -> Any:
        other = {kind: "Splitop test: three times"}
        with tf.compat.v1.get_default_graph().gradient_override_map(other):
            y = tf.nn.relu(tf.matmul(tf.nn.softmax(x), model.weights[0]) + bias)
        iv = tf.tanh(tf.matmul(y, model.weights[1]))
        splitop.minimize(optimizer, iv, variables, model.seed, backend=backend)
        return y

    return step


@pytest.mark.parametrize("batch", [BATCH, None])
def test_layers_of_keras(batch: int | None) -> None:
    """Biases of heads and of rows, and relu, are no operations any more."""
    keras.utils.set_random_seed(0)
    x = keras.Input((TIME, WIDTH), batch)
    h = keras.layers.MultiHeadAttention(2, 3)(x, x)
    h = keras.layers.Dense(WIDTH, "relu")(keras.layers.Dense(7, "relu")(h))
    second = keras.Model(x, keras.layers.Dense(WIDTH, "tanh")(h))
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(second.trainable_variables)

    @splitop.function(autograph=False)
    def step(data: Any, seed: Any) -> None:
        splitop.minimize(optimizer, second(data), second.trainable_variables, seed)

    data = tf.zeros([BATCH, TIME, WIDTH])
    trained_by = _trained_by(step.get_concrete_function(data, data).graph)
    assert not trained_by & {"BiasAdd", "Add", "AddV2", "Relu", "MatMul"}


def test_two_steps_in_a_function() -> None:
    def step(model: Model, minimize: Any) -> Any:
        minimize(model.iv())
        minimize(model.iv())

    _check(step)


def test_nothing_changes_without_a_fused_op() -> None:
    model = Model()
    run = splitop.function(lambda: tf.gradients(model.iv(), model.x), autograph=False)
    assert not of_type(run.get_concrete_function().graph, "Splitop>")


def test_xla_makes_its_own() -> None:
    model = Model()
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.weights)

    @splitop.function(autograph=False, jit_compile=True)
    def run() -> None:
        splitop.minimize(optimizer, model.iv(), model.weights, model.seed)

    assert not of_type(run.get_concrete_function().graph, "Splitop>Einsum")


def test_autograph() -> None:
    """It converts the function inside of the one that is traced."""

    @splitop.function
    def run(x: Any) -> Any:
        if tf.reduce_sum(x) > 0:
            x = -x
        return x

    assert run(tf.constant(2.0)).numpy() == -2.0


class _Trainer:
    def __init__(self) -> None:
        self.model = Model()
        self.optimizer = keras.optimizers.SGD(0.1)
        self.optimizer.build(self.model.weights)

    @splitop.function
    def step(self) -> None:
        iv = self.model.iv()
        splitop.minimize(self.optimizer, iv, self.model.weights, self.model.seed)


def test_a_method() -> None:
    trainer = _Trainer()
    trainer.step()
    assert of_type(trainer.step.get_concrete_function().graph, "Splitop>Einsum")


def test_a_split_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that Keras trains makes its own products, and ends where the reference does."""
    weights, made = [], []

    def emit_product(*args: Any) -> Any:
        made.append(args)
        return own_product.emit_product(*args)

    monkeypatch.setattr(replaced, "emit_product", emit_product)
    for backend in ("fused", "reference"):
        keras.utils.set_random_seed(0)
        x = keras.Input((TIME, WIDTH))
        heads = keras.layers.MultiHeadAttention(2, 3)(x, x)
        second = keras.Model(x, keras.layers.Dense(WIDTH, "tanh")(heads))
        y = keras.Input((TIME, WIDTH))
        first = keras.Model(y, keras.layers.Dense(1)(keras.layers.Flatten()(y)))
        model = splitop.keras.SplitModel(second, first)
        optimizers = [keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1)]
        model.compile(*optimizers, loss="mse", backend=backend, jit_compile=False)
        data = np.random.default_rng(0).normal(size=(8, TIME, WIDTH)).astype("float32")
        model.fit(data, data[:, 0, :1], batch_size=4, shuffle=False, verbose=0)
        weights.append(model.get_weights())
        assert bool(made) == (backend == "fused")
        made.clear()
    for fused, reference in zip(*weights, strict=True):
        np.testing.assert_allclose(fused, reference, rtol=1e-4, atol=1e-6)
