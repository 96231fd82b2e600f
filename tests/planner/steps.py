"""Trains second parts on batches, by TF1 optimizers in a graph and Keras' in a tf.function."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop
from tests.planner.models import Weights
from tests.planner.training import name_of, seed_for

tf1 = tf.compat.v1

FLAVOURS = ("tf1", "keras")

Build = Callable[[Weights, Any], Any]
State = list[np.ndarray]


@dataclasses.dataclass
class Steps:
    """What a run left behind.

    Attributes:
        plan: The plan it followed.
        values: Names and values of all variables, and of the optimizer's.
        states: These values after each step; in a tf.function only.
        fused_ops: How many of splitop's ops of each type are in the graph.
    """

    plan: splitop.Plan
    values: list[tuple[str, np.ndarray]]
    fused_ops: collections.Counter[str]
    states: Sequence[State] = ()

    @property
    def writing_ops(self) -> dict[str, int]:
        """Those of `fused_ops` that work on variables: the others only compute."""
        computing = ("Einsum", "LayerNorm", "Conv2D", "MaxPool", "Softmax")
        return {
            kind: count for kind, count in self.fused_ops.items() if not kind.startswith(computing)
        }


def run_steps(
    flavour: str,
    build: Build,
    optimizer: Callable[[], Any],
    batches: Sequence[np.ndarray],
    *,
    static: bool = False,
    device: str | None = None,
    jit: bool = False,
    follows: Sequence[State] = (),
    **options: Any,
) -> Steps:
    """Takes a step on each batch.

    Args:
        flavour: "tf1" or "keras".
        build: Computes the intermediate vector from Weights and the input.
        optimizer: Makes an optimizer of that flavour.
        batches: The inputs.
        static: Whether the size of the batch is known when the graph is built.
        device: Where the variables are put.
        jit: Whether XLA compiles the tf.function.
        follows: The states of a run before: each step but the first starts where that one's did.
        **options: Those of `splitop.plan`.
    """
    shape = batches[0].shape if static else (None, *batches[0].shape[1:])
    spec = tf.TensorSpec(shape, tf.as_dtype(batches[0].dtype))
    if flavour == "tf1":
        return _in_graph(build, optimizer, batches, spec, device, options)
    return _in_function(build, optimizer, batches, spec, device, jit, follows, options)


def run_as_reference(
    build: Build, flavour: str, batches: Sequence[np.ndarray], rate: float, **options: Any
) -> Steps:
    """Takes steps of plain SGD by the fused path, as the reference takes them.

    Args:
        build: As of `run_steps`.
        flavour: Likewise.
        batches: Likewise.
        rate: The learning rate.
        **options: Those of `run_steps`.

    Returns:
        The fused run.
    """
    make = {
        "keras": lambda: keras.optimizers.SGD(rate),
        "tf1": lambda: tf1.train.GradientDescentOptimizer(rate),
    }[flavour]
    fused, reference = (
        run_steps(flavour, build, make, batches, backend=backend, **options)
        for backend in ("fused", "reference")
    )
    assert reference.fused_ops.keys() <= {"Check"}  # that of the seed, inside XLA
    assert_same_values(fused, reference)
    return fused


def assert_same_values(actual: Steps, expected: Steps) -> None:
    for (name, value), (_, reference) in zip(actual.values, expected.values, strict=True):
        np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-11, err_msg=name)


def assert_same_states(actual: Steps, expected: Steps) -> None:
    """After each step."""
    names = [name for name, _ in expected.values]
    for number, states in enumerate(zip(actual.states, expected.states, strict=True)):
        for name, value, reference in zip(names, *states, strict=True):
            np.testing.assert_allclose(
                value, reference, rtol=1e-9, atol=1e-11, err_msg=f"{name}, step {number}"
            )


def assert_trained(steps: Steps, start: Steps) -> None:
    for (name, value), (_, before) in zip(steps.values, start.values, strict=True):
        assert (value != before).any(), name


def _fused_ops() -> collections.Counter[str]:
    prefix = "Splitop>"
    types = [op.type for op in tf1.get_default_graph().get_operations()]
    return collections.Counter(t.removeprefix(prefix) for t in types if t.startswith(prefix))


def _in_graph(
    build: Build, make: Callable[[], Any], batches: Any, spec: Any, device: Any, options: Any
) -> Steps:
    config = tf1.ConfigProto(allow_soft_placement=True)
    with tf.Graph().as_default(), tf.device(device), tf1.Session(config=config) as session:
        keras.utils.set_random_seed(0)
        x, weights = tf1.placeholder(spec.dtype, spec.shape, "x"), Weights()
        iv = build(weights, x)
        plan = splitop.plan(make(), iv, weights.variables, seed_for(iv), **options)
        step = plan.apply()
        session.run(tf1.global_variables_initializer())
        for batch in batches:
            session.run(step, {x: batch})
        variables = tf1.global_variables()
        values = zip(map(name_of, variables), session.run(variables), strict=True)
        return Steps(plan, list(values), _fused_ops())


def _in_function(
    build: Build,
    make: Callable[[], Any],
    batches: Any,
    spec: Any,
    device: Any,
    jit: bool,
    follows: Sequence[State],
    options: Any,
) -> Steps:
    weights = Weights()
    keras.utils.set_random_seed(0)
    with tf.device(device):
        build(weights, tf.constant(batches[0]))
        optimizer = make()
        optimizer.build(weights.variables)
    found: list[Any] = []

    @tf.function(input_signature=[spec], autograph=False, jit_compile=jit or None)
    def step(x: Any) -> None:
        iv = build(weights, x)
        plan = splitop.plan(optimizer, iv, weights.variables, seed_for(iv), **options)
        plan.apply()
        found[:] = [plan, _fused_ops()]

    variables = [*weights.variables, *optimizer.variables]
    states: list[State] = []
    for number, batch in enumerate(batches):
        if follows and number > 0:
            for variable, value in zip(variables, follows[number - 1], strict=True):
                variable.assign(value)
        step(batch)
        states.append([np.asarray(variable).copy() for variable in variables])
    values = zip(map(name_of, variables), states[-1], strict=True)
    return Steps(found[0], list(values), found[1], states)
