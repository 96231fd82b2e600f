"""Whole second parts inside jit_compile=True train as fused ones do outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.planner.lookups import IDS, LOOKUPS
from tests.planner.models import MODELS
from tests.planner.steps import Build, Steps, assert_same_states, assert_same_values, run_steps
from tests.planner.training import inputs
from tests.plans import fusing

STEPS = 20

# TensorFlow has operations in these that XLA can't compile, or only for sizes that do not depend on
# values: they do not compile on the reference path either.
NOT_IN_XLA = {
    "loop",
    "gather_nd",
    *(f"sparse, {combiner}" for combiner in ("sum", "mean", "sqrtn")),
    *(f"sparse, weighted {combiner}" for combiner in ("sum", "mean", "sqrtn")),
    "safe, mean",
    "safe, weighted mean",
    "ragged, sum",
    "ragged, mean",
    "two kinds of bags",
}


# They draw other random numbers inside XLA.
RANDOM = {"dropout"}


def adam() -> Any:
    return keras.optimizers.Adam(0.05)


def momentum() -> Any:
    """Adam would make much of the rounding of gradients that are zero. No model diverges."""
    return keras.optimizers.SGD(0.005, momentum=0.9)


def inside_and_outside(
    build: Build, make: Callable[[], Any], batches: list[np.ndarray], **options: Any
) -> tuple[Steps, Steps]:
    """Each step inside from where the one before has led outside."""
    outside = run_steps("keras", build, make, batches, **options)
    inside = run_steps("keras", build, make, batches, jit=True, follows=outside.states, **options)
    assert_same_states(inside, outside)
    assert fusing(inside.plan) == fusing(outside.plan)
    assert inside.plan.fused
    return inside, outside


def _check(name: str, build: Build, make: Callable[[], Any], batches: list[np.ndarray]) -> None:
    if name in NOT_IN_XLA:
        for backend in ("reference", "auto"):
            with pytest.raises(tf.errors.OpError):
                run_steps("keras", build, make, batches, jit=True, backend=backend)
    elif name in RANDOM:
        fused, reference = (
            run_steps("keras", build, make, batches, jit=True, backend=backend)
            for backend in ("fused", "reference")
        )
        assert_same_values(fused, reference)
    else:
        inside_and_outside(build, make, batches)


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str) -> None:
    _check(name, MODELS[name].build, momentum, [inputs(MODELS[name])] * STEPS)


@pytest.mark.parametrize("name", LOOKUPS)
def test_lookups(name: str) -> None:
    _check(name, LOOKUPS[name].build, adam, [np.roll(IDS, step, axis=1) for step in range(STEPS)])
