"""The fused path sees the values, and keeps the order, that the reference does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src.graph import reach
from tests.planner.training import plain_names
from tests.planner.walks import all_before

tf1 = tf.compat.v1

SHAPES = {"W1": (5, 4), "b1": (4,), "W2": (4, 3), "b2": (3,)}
BATCH = 6
SEED = np.random.default_rng(2).normal(size=(BATCH, 3))


def batch(number: int) -> Any:
    return tf.constant(np.random.default_rng(number).normal(size=(BATCH, 5)))


def make_variables() -> list[tf.Variable]:
    random = np.random.default_rng(1)
    return [tf.Variable(random.normal(size=shape), name=name) for name, shape in SHAPES.items()]


def forward(v: Any, x: Any, between: Callable[[Any], Any] = tf.tanh) -> Any:
    return between(x @ v[0] + v[1]) @ v[2] + v[3]


class Steps:
    """Adds steps with one optimizer, and keeps their plans."""

    def __init__(self, optimizer: Any, variables: Any, backend: str) -> None:
        self.optimizer, self.variables, self.backend = optimizer, variables, backend
        self.plans: list[splitop.Plan] = []

    def plan(self, iv: Any) -> splitop.Plan:
        seed = tf.constant(SEED)
        self.plans.append(
            splitop.plan(self.optimizer, iv, self.variables, seed, backend=self.backend)
        )
        return self.plans[-1]

    def minimize(self, iv: Any) -> tf.Operation:
        return self.plan(iv).apply()


def one_forward_two_steps(steps: Steps, v: Any) -> None:
    y = forward(v, batch(0))
    steps.minimize(y)
    steps.minimize(y)


def two_forwards_then_two_steps(steps: Steps, v: Any) -> None:
    for y in [forward(v, batch(number)) for number in range(2)]:
        steps.minimize(y)


def write_before_the_step(steps: Steps, v: Any) -> None:
    y = forward(v, batch(0))
    v[2].assign(v[2] * 0.5)
    steps.minimize(y)


def write_in_a_branch(steps: Steps, v: Any) -> None:
    y = forward(v, batch(0))
    tf.cond(y[0, 0] < 1e9, lambda: v[2].assign(v[2] * 0.5), lambda: v[2].value())
    steps.minimize(y)


def one_read_two_steps(steps: Steps, v: Any) -> None:
    read = v[2].read_value()
    for number in range(2):
        steps.minimize(tf.tanh(batch(number) @ v[0] + v[1]) @ read + v[3])


def write_before_the_forward(steps: Steps, v: Any) -> None:
    v[2].assign(v[2] * 0.5)
    tf.function(lambda: v[2] * 2.0)()
    steps.minimize(forward(v, batch(0)))


def forward_before_each_step(steps: Steps, v: Any) -> None:
    for number in range(2):
        steps.minimize(forward(v, batch(number)))


def train(body: Callable[[Steps, Any], None], backend: str) -> tuple[list[np.ndarray], Any]:
    variables = make_variables()
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(variables)
    steps = Steps(optimizer, variables, backend)

    @tf.function(autograph=False)
    def step() -> None:
        body(steps, variables)

    step()
    return [variable.numpy() for variable in variables], steps.plans


@pytest.mark.parametrize(
    ("body", "lengths"),
    [
        (one_forward_two_steps, [[2], [1, 1]]),
        (two_forwards_then_two_steps, [[2], [1, 1]]),
        (write_before_the_step, [[1, 1]]),
        (write_in_a_branch, [[1, 1]]),
        (one_read_two_steps, [[2], [1, 1]]),
        (write_before_the_forward, [[2]]),
        (forward_before_each_step, [[2], [2]]),
    ],
)
def test_the_backward_pass_uses_what_the_forward_pass_read(body: Any, lengths: Any) -> None:
    fused, plans = train(body, "fused")
    for values, expected in zip(fused, train(body, "reference")[0], strict=True):
        np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-14)
    assert [[len(chain.layers) for chain in plan.chains] for plan in plans] == lengths


def test_a_write_between_plan_and_apply_is_an_error() -> None:
    def body(steps: Steps, v: Any) -> None:
        plan = steps.plan(forward(v, batch(0)))
        v[0].assign(v[0] * 0.5)  # Nothing reads the bottom kernel backwards.
        v[2].assign(v[2] * 0.5)
        with pytest.raises(splitop.SplitError, match=r'"W2:0" is written .*splitop\.plan again'):
            plan.apply()

    train(body, "fused")


@pytest.mark.parametrize("apply_under", [True, False])
def test_steps_one_after_the_other_in_a_graph(apply_under: bool) -> None:
    """tf.control_dependencies orders the steps; the second one's forward pass came first."""
    results = []
    for backend in ("fused", "reference"):
        with tf.Graph().as_default(), tf1.Session() as session:
            variables = make_variables()
            steps = Steps(tf1.train.GradientDescentOptimizer(0.1), variables, backend)
            y = forward(variables, batch(0))
            first = steps.minimize(y)
            with tf.control_dependencies([first]):
                plan = steps.plan(y)
                last = plan.apply() if apply_under else None
            last = last or plan.apply()
            assert first in all_before(last)
            session.run(tf1.global_variables_initializer())
            session.run(last)
            results.append(session.run(variables))
    for values, expected in zip(*results, strict=True):
        np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-14)


def _too_large(gradient: Any) -> Any:
    return tf.raw_ops.Assert(condition=tf.reduce_max(tf.abs(gradient)) < 1e-6, data=["too large"])


@tf.custom_gradient
def guard(h: Any) -> Any:
    """Passes a gradient on after a check."""

    def grad(dh: Any) -> Any:
        with tf.control_dependencies([_too_large(dh)]):
            return tf.identity(dh)

    return tf.identity(h), grad


@tf.custom_gradient
def guard_aside(h: Any) -> Any:
    """Checks a gradient that does not wait for it; only a tf.function runs the check."""

    def grad(dh: Any) -> Any:
        _too_large(dh)
        return dh

    return tf.identity(h), grad


@tf.custom_gradient
def guarded_product(x: Any, w: Any) -> Any:
    def grad(dy: Any) -> Any:
        with tf.control_dependencies([_too_large(dy)]):
            return tf.matmul(dy, w, transpose_b=True), tf.matmul(x, dy, transpose_a=True)

    return x @ w, grad


def overflow(h: Any) -> Any:
    """Its gradient is infinite."""
    return tf.debugging.check_numerics(h, "checked") * 1e200 * 1e200


def fails_unchanged(mode: str, compute: Callable[[Any], Any]) -> splitop.Plan:
    """Runs a step that has to fail and to write nothing; returns its plan."""
    with tf.Graph().as_default() if mode == "graph" else tf.init_scope():
        variables = make_variables()
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(variables)
        steps = Steps(optimizer, variables, "auto")
        if mode == "graph":
            step = steps.minimize(compute(variables))
            with tf1.Session() as session:
                session.run(tf1.global_variables_initializer())
                before = session.run(variables)
                with pytest.raises(tf.errors.InvalidArgumentError):
                    session.run(step)
                after = session.run(variables)
        else:

            @tf.function(autograph=False)
            def function() -> None:
                steps.minimize(compute(variables))

            before = [variable.numpy() for variable in variables]
            with pytest.raises(tf.errors.InvalidArgumentError):
                function()
            after = [variable.numpy() for variable in variables]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    return steps.plans[0]


@pytest.mark.parametrize(
    ("mode", "between"),
    [
        ("graph", guard),
        ("function", guard),
        ("function", guard_aside),
        ("graph", overflow),
        ("function", overflow),
    ],
)
def test_a_check_between_two_chains_comes_before_all_updates(mode: str, between: Any) -> None:
    plan = fails_unchanged(mode, lambda v: forward(v, batch(0), between))
    assert len(plan.fused) == 4
    assert [len(chain.layers) for chain in plan.chains] == [1, 1]


@pytest.mark.parametrize("mode", ["graph", "function"])
class TestAGradientThatWaitsIsDeclined:
    def test_of_a_kernel_behind_a_guard(self, mode: str) -> None:
        plan = fails_unchanged(
            mode, lambda v: (tf.tanh(batch(0) @ guard(v[0]) + v[1])) @ v[2] + v[3]
        )
        assert "control dependencies" in plain_names(plan.updated)["W1"]

    def test_of_a_bias_behind_a_guard(self, mode: str) -> None:
        plan = fails_unchanged(mode, lambda v: (batch(0) @ v[0] + guard(v[1])) @ v[2] + v[3])
        assert "control dependencies" in plain_names(plan.updated)["b1"]

    def test_in_the_product(self, mode: str) -> None:
        plan = fails_unchanged(
            mode, lambda v: guarded_product(tf.tanh(batch(0) @ v[0] + v[1]), v[2]) + v[3]
        )
        assert "control dependencies" in plain_names(plan.updated)["W2"]


@pytest.mark.usefixtures("graph")
class TestATrainedInput:
    def plan(self, iv: Any) -> splitop.Plan:
        optimizer = tf1.train.GradientDescentOptimizer(0.1)
        return splitop.plan(optimizer, iv, tf1.trainable_variables())

    def products(self, step: Any) -> int:
        return sum(op.type == "MatMul" and "reference" in op.name for op in all_before(step))

    def test_gets_its_gradient_from_the_op(self) -> None:
        z = tf1.get_variable("z", [BATCH, 5], use_resource=True)
        plan = self.plan(tf.tanh(z @ tf1.get_variable("k", [5, 4])) @ tf1.get_variable("t", [4, 3]))
        assert [chain.input_gradient for chain in plan.chains] == [True]
        assert "the input of a layer" in plain_names(plan.updated)["z"]
        assert self.products(plan.apply()) == 0

    def test_is_the_first_factor_of_a_factored_kernel(self) -> None:
        a, b = tf1.get_variable("a", [5, 2]), tf1.get_variable("b", [2, 4])
        plan = self.plan(tf.ones([BATCH, 5]) @ (a @ b))
        assert [chain.input_gradient for chain in plan.chains] == [True]
        # Only the product's own gradient is left, which the op starts from.
        assert self.products(plan.apply()) == 1


@pytest.mark.usefixtures("graph")
@pytest.mark.parametrize(
    ("shape", "activation"),
    [([BATCH, 4], "softplus"), ([1, 4], "linear"), ([None, 4], "linear"), (None, "linear")],
)
def test_a_product_with_a_sigmoid_may_broadcast(shape: Any, activation: str) -> None:
    z = tf1.placeholder(tf.float32, shape)
    tf.nn.softplus(z)  # Some other use of z.

    @tf.custom_gradient
    def gate(h: Any) -> Any:
        return tf.identity(h), lambda dh: dh * tf.sigmoid(z)

    iv = gate(tf.ones([BATCH, 5]) @ tf1.get_variable("k", [5, 4]))
    plan = splitop.plan(tf1.train.GradientDescentOptimizer(0.1), iv, tf1.trainable_variables())
    assert plan.chains[0].layers[0].activation == activation


@pytest.mark.parametrize("path", ["auto", "reference"])
def test_a_reference_variable_is_written_after_all_that_uses_its_memory(path: str) -> None:
    """TensorFlow has no buffer of its own for whoever still reads it."""
    with tf.Graph().as_default():
        tf1.disable_resource_variables()
        try:
            kernels = [tf1.get_variable(f"w{i}", [3, 3]) for i in range(3)]
        finally:
            tf1.enable_resource_variables()
        h = tf.ones([2, 3])
        for kernel in kernels:
            h = tf.matmul(h, kernel)  # The gradients need the forward pass, the activations don't.
        sgd = tf1.train.GradientDescentOptimizer(1.0)
        step = splitop.minimize(sgd, h, kernels, tf.ones_like(h), backend=path)
        with tf.control_dependencies([step]):
            end = tf.constant(0)
        runs = reach.ancestors([end], control=True)
        for kernel in kernels:
            users = [op for op in runs if op.type == "MatMul" and _reads(op, kernel)]
            (update,) = (op for op in runs if _writes(op, kernel))
            before = reach.ancestors(update.inputs, control=True)
            assert users
            assert all(op in before for op in users)


def _reads(op: Any, kernel: Any) -> bool:
    return any(tensor.op.inputs and tensor.op.inputs[0] is kernel._variable for tensor in op.inputs)


def _writes(op: Any, kernel: Any) -> bool:
    return op.type == "ApplyGradientDescent" and op.inputs[0] is kernel._variable
