"""Inside XLA no product is computed that an op computes, and none that nothing needs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from tests.planner.models import DTYPE, Weights
from tests.xla.test_in_place import BATCH, INPUTS, PARTS, UNITS

# Products of the forward pass that the ops don't run, then dL/dx and dL/dW that they don't compute.
EXPECTED = {
    "chain": 0,  # the op runs the forward pass
    "two_chains": 1,  # the upper one is linear: nothing needs its output
    "used_twice": 5,  # three on the way up; G·Wᵀ of both uses
    "read_above": 2,  # one on the way up; the gradient that the penalty's is added to
    "table": 0,
}


@pytest.mark.parametrize("part", PARTS)
def test_products(part: str) -> None:
    step = _step(PARTS[part], jit=True)
    program = step.experimental_get_compiler_ir(*_tensors())(stage="optimized_hlo")
    assert program.count(" dot(") == EXPECTED[part]


@pytest.mark.parametrize("part", PARTS)
def test_the_result_is_that_of_a_step_outside(part: str) -> None:
    inside, outside = (_step(PARTS[part], jit) for jit in (True, False))
    for _ in range(3):
        inside(*_tensors())
        outside(*_tensors())
    for weight, expected in zip(inside.weights, outside.weights, strict=True):
        np.testing.assert_allclose(weight.numpy(), expected.numpy(), rtol=1e-9, atol=1e-12)


def _tensors() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    x, seed = random.normal(size=(BATCH, INPUTS)), random.normal(size=(BATCH, UNITS))
    return tf.constant(x, DTYPE), tf.constant(seed, DTYPE)


def _step(build: Any, jit: bool) -> Any:
    """A step that is given its seed, and returns nothing."""
    weights = Weights()
    build(weights, _tensors()[0])
    optimizer = keras.optimizers.Adam(0.01)

    @tf.function(autograph=False, jit_compile=jit)
    def step(x: Any, seed: Any) -> None:
        iv = build(weights, x)
        splitop.minimize(optimizer, iv, weights.variables, seed, backend="fused")

    step(*_tensors())
    step.weights = weights.variables
    return step
