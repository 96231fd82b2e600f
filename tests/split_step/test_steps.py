"""A step in parts is the step of both parts in one, and trains as Keras does."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.op.buffers import addresses
from tests.split_step.parts import SECOND, Trained

ROWS = (6, 6, 3)  # Another batch size has functions of its own.
FORWARD = ("stash", "recompute")


def assert_close(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    """But for the rounding of what TensorFlow fuses in one function and not in another."""
    for (name, left), right in zip(a.items(), b.values(), strict=True):
        if left.dtype.kind == "f":
            np.testing.assert_allclose(left, right, 1e-5, 1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(left, right, err_msg=name)


def of_functions(
    second: Any, first: Any, first_vars: list[Any], second_vars: list[Any], **options: Any
) -> splitop.SplitStep:
    """Parts without Keras, squared errors, and SGD with a rate of 0.1."""
    return splitop.SplitStep(
        second,
        first,
        lambda y, z: (y - z) ** 2,
        first_optimizer=keras.optimizers.SGD(0.1),
        second_optimizer=keras.optimizers.SGD(0.1),
        first_vars=first_vars,
        second_vars=second_vars,
        **options,
    )


@pytest.mark.parametrize(
    ("kind", "path"),
    [*((kind, "auto") for kind in SECOND), ("dropout, norm", "reference"), ("lstm", "reference")],
)
@pytest.mark.parametrize("forward", FORWARD)
def test_in_parts_as_in_one(kind: str, path: str, forward: str) -> None:
    """Dropout's masks, statistics and the states of random generators as well."""
    parts, one = (Trained(kind, forward=forward, backend=path) for _ in range(2))
    for number, rows in enumerate((6, 6) if kind == "stateful" else ROWS):
        loss = parts.in_parts(number, rows, pass_seed=number % 2 == 0)
        np.testing.assert_allclose(loss, one.in_one(number, rows), 1e-5)
    assert_close(parts.state(), one.state())
    for plan in (parts.step.first_plan, parts.step.second_plan):
        assert plan is not None
        assert bool(plan.fused) == (path == "auto")


@pytest.mark.parametrize("forward", FORWARD)
def test_loss_scales_are_undone_once(forward: str) -> None:
    """Pitfall 17: each part's own; the seed has none, and is wide enough to do without."""
    parts, one, plain = (
        Trained("half", True, forward=forward),
        Trained("half", True),
        Trained("half"),
    )
    for number in range(3):
        x, y = parts.batch(number)
        seed = parts.step.train_first(parts.step.forward_second(x), y).seed
        assert seed.dtype == tf.float32
        parts.step.train_second(seed)
        one.in_one(number)
        plain.in_one(number)
    assert_close(parts.state(), one.state())
    weights = [v for part in (parts.second, parts.first) for v in part.variables]
    others = [v for part in (plain.second, plain.first) for v in part.variables]
    for weight, other in zip(weights, others, strict=True):
        # In 16 bits the scaled gradients round otherwise.
        np.testing.assert_allclose(weight, other, 3e-2, 3e-3, err_msg=weight.path)


def test_an_overflow_leaves_the_step_out() -> None:
    each = Trained("half", True)
    each.in_parts(0)
    x, y = each.batch(1)
    iv = each.step.forward_second(x)
    seed = each.step.train_first(iv, y).seed
    before = each.state()
    each.step.train_second(seed * 1e30)
    after = each.state()
    changed = {name for name in after if (after[name] != before[name]).any()}
    assert {name.split("/")[-1] for name in changed} == {
        "dynamic_scale",
        "step_counter",
    }


@pytest.mark.parametrize("in_parts", [False, True])
def test_an_overflow_of_the_first_part_does_not_reach_the_second(in_parts: bool) -> None:
    """A loss scale is found by steps that overflow."""
    each = Trained("half")
    first = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**120)
    each.make_step(first, keras.optimizers.SGD(0.1))
    before = [variable.numpy() for variable in each.second.variables]
    for number in range(3):
        (each.in_parts if in_parts else each.in_one)(number)
    after = [variable.numpy() for variable in each.second.variables]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert float(first.dynamic_scale.numpy()) < 2.0**120
    first.dynamic_scale.assign(8.0)
    (each.in_parts if in_parts else each.in_one)(3)
    for old, variable in zip(before, each.second.variables, strict=True):
        assert np.isfinite(variable.numpy()).all()
        assert (variable.numpy() != old).any()


@pytest.mark.parametrize("forward", FORWARD)
def test_a_trained_variable_that_the_forward_pass_writes(forward: str) -> None:
    """As in one function, the step uses what the forward pass has read."""

    def make() -> tuple[splitop.SplitStep, list[tf.Variable]]:
        a, b, v = (tf.Variable(np.full([2, 2], value, np.float32)) for value in (0.5, 0.25, 1.0))

        def second(x: Any) -> Any:
            y = tf.tanh(x @ a) @ b
            b.assign(0.1 * b)
            return y

        return of_functions(second, lambda iv: iv @ v, [v], [a, b], forward=forward), [a, b, v]

    (parts, left), (one, right) = make(), make()
    x, y = tf.constant([[1.0, 2.0], [-0.5, 1.0]]), tf.zeros([2, 2])
    for _ in range(2):
        parts.train_first(parts.forward_second(x), y)
        parts.train_second()
        one.step(x, y)
    for variable, expected in zip(left, right, strict=True):
        np.testing.assert_allclose(variable, expected, 1e-5)


def test_an_input_is_a_part_of_iv() -> None:
    w, v = tf.Variable(tf.ones([2, 2])), tf.Variable(tf.ones([4, 1]))
    step = of_functions(
        lambda x: {"made": x @ w, "given": x},
        lambda iv: tf.concat([iv["made"], iv["given"]], 1) @ v,
        [v],
        [w],
    )
    x, y = tf.constant([[1.0, 2.0]]), tf.zeros([1, 1])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((y - tf.concat([x @ w, x], 1) @ v) ** 2)
    expected = w - 0.1 * tape.gradient(loss, w)
    step.train_first(step.forward_second(x), y)
    step.train_second()
    np.testing.assert_allclose(w, expected, 1e-6)


@pytest.mark.parametrize("in_parts", [False, True])
def test_as_keras_trains(in_parts: bool) -> None:
    """The unsplit model with the same optimizers, by a tape."""
    split, plain = Trained(), Trained()
    loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for number in range(4):
        (split.in_parts if in_parts else split.in_one)(number)
        x, y = plain.batch(number)
        with tf.GradientTape(persistent=True) as tape:
            iv = plain.second(x, training=True)
            loss = loss_fn(y, plain.first(iv, training=True))
            loss += sum(plain.first.losses) + sum(plain.second.losses)
        for part, optimizer in zip((plain.first, plain.second), plain.optimizers, strict=True):
            gradients = tape.gradient(loss, part.trainable_variables)
            optimizer.apply(gradients, part.trainable_variables)
    assert_close(split.state(), plain.state())


def test_callables_without_keras() -> None:
    """AutoGraph converts them, and the loss may have a value a sample."""
    w, v = tf.Variable([[0.5, -1.0], [2.0, 0.25]]), tf.Variable([[1.0], [-0.5]])

    def second(x: Any) -> Any:
        h = x @ w
        if tf.reduce_sum(h) > 0:  # A Python condition on a tensor.
            h = h * 2.0
        return h

    step = of_functions(second, lambda iv: iv @ v, [v], [w])
    x, y = tf.constant([[1.0, 2.0], [0.5, -1.0]]), tf.constant([[1.0], [2.0]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((y - second(x) @ v) ** 2)
    expected = [t - 0.1 * g for t, g in zip((w, v), tape.gradient(loss, (w, v)), strict=True)]
    iv = step.forward_second(x)
    first = step.train_first(iv, y)
    step.train_second()
    np.testing.assert_allclose(first.loss, loss, 1e-6)
    np.testing.assert_allclose(w, expected[0], 1e-5)
    np.testing.assert_allclose(v, expected[1], 1e-5)


def test_the_forward_pass_is_traced_and_run_once() -> None:
    runs: list[int] = []
    each = Trained()
    layer = each.second.layers[-1]
    call = layer.call

    def counted(*args: Any, **options: Any) -> Any:
        tf.py_function(lambda: runs.append(1), [], [])
        return call(*args, **options)

    layer.call = counted
    for number in range(3):
        each.in_parts(number)
    assert len(runs) == 3


def test_no_weight_is_copied() -> None:
    each = Trained("dense")
    variables = {v.path: v.value for v in each.second.trainable_variables}
    each.in_parts(0)
    before = addresses(variables)
    for number in range(1, 4):
        each.in_parts(number)
        assert addresses(variables) == before


def kept(step: splitop.SplitStep) -> list[bool]:
    """Of each thing that a forward pass keeps, whether it is there."""
    return [
        bool(tf.raw_ops.VarIsInitializedOp(resource=handle))
        for run in step._runs
        for handle in run._stash._handles()
    ]


class TestMemory:
    """Pitfall 15."""

    def test_no_graph_is_built_for_each_batch_size(self) -> None:
        each = Trained()
        for number, rows in enumerate((6, 5, 4, 3, 2, 7)):
            each.in_parts(number, rows)
        assert len(each.step._runs) == 2
        assert all(run.step.experimental_get_tracing_count() == 1 for run in each.step._runs)

    def test_is_released_by_the_step(self) -> None:
        each = Trained()
        x, y = each.batch(0)
        iv = each.step.forward_second(x)
        assert all(kept(each.step))
        each.step.train_first(iv, y)
        each.step.train_second()
        assert not any(kept(each.step))

    def test_is_released_by_forget_and_by_step(self) -> None:
        each = Trained()
        each.step.forward_second(each.batch(0)[0])
        each.step.forget()
        assert not any(kept(each.step))
        each.step.forward_second(each.batch(0)[0])
        each.in_one(1)
        assert not any(kept(each.step))

    def test_is_released_by_a_step_that_fails(self) -> None:
        each = Trained()
        x, y = each.batch(0)
        each.step.train_first(each.step.forward_second(x), y)
        kernel = each.second.layers[0].kernel
        kernel.assign(kernel.value * 2.0)
        with pytest.raises(splitop.StashError):
            each.step.train_second()
        assert not any(kept(each.step))

    def test_is_released_while_another_graph_is_built(self) -> None:
        each = Trained()
        each.step.forward_second(each.batch(0)[0])
        handles = [handle for run in each.step._runs for handle in run._stash._handles()]
        with tf.Graph().as_default() as graph:
            graph.finalize()
            del each.step
            gc.collect()
        assert not any(tf.raw_ops.VarIsInitializedOp(resource=handle) for handle in handles)

    def test_is_released_with_the_object(self) -> None:
        each = Trained()
        each.step.forward_second(each.batch(0)[0])
        handles = [handle for run in each.step._runs for handle in run._stash._handles()]
        del each.step
        gc.collect()
        assert not any(tf.raw_ops.VarIsInitializedOp(resource=handle) for handle in handles)

    def test_of_the_vectors_is_the_users(self) -> None:
        each = Trained()
        x, y = each.batch(0)
        iv = each.step.forward_second(x)
        seed = each.step.train_first(iv, y).seed
        each.step.train_second(seed)
        alive = weakref.ref(iv), weakref.ref(seed)
        del iv, seed
        gc.collect()
        assert [each() for each in alive] == [None, None]


@pytest.mark.parametrize("forward", FORWARD)
def test_the_op_runs_what_is_computed_again(forward: str) -> None:
    kernel, bias = tf.Variable(tf.ones([3, 4]) / 4), tf.Variable(tf.zeros([4]))
    head = tf.Variable(tf.ones([4, 1]))
    step = of_functions(
        lambda x: tf.tanh(x @ kernel + bias),
        lambda iv: iv @ head,
        [head],
        [kernel, bias],
        forward=forward,
    )
    x, y = tf.constant([[1.0, -2.0, 0.5]]), tf.constant([[2.0]])
    iv = step.forward_second(x)
    _, seed = step.train_first(iv, y)
    step.train_second(seed)
    assert step.second_plan is not None
    (chain,) = step.second_plan.chains
    assert chain.forward == (forward == "recompute")
    g = seed.numpy() * (1 - iv.numpy() ** 2)
    np.testing.assert_allclose(kernel, 1 / 4 - 0.1 * x.numpy().T @ g, 1e-5)
    np.testing.assert_allclose(bias, -0.1 * g[0], 1e-5)
