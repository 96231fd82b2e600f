"""Inside XLA on a GPU: fused if that is asked for, and what is said if not."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src.graph import reasons
from splitop._src.xla import GPU_VARIABLE
from tests.op.gpu import on_gpu
from tests.planner.lookups import IDS, LOOKUPS
from tests.planner.models import MODELS
from tests.planner.steps import Build, assert_same_values, run_steps
from tests.planner.training import inputs
from tests.xla.test_models import adam, momentum

STEPS = 3
NAMES = ["gelu", "residual", "two_ivs", "conv_stem", "encoder", "shared_layer", "lstm"]
LOOKED_UP = ["deep", "padded, mean", "several tables"]


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GPU_VARIABLE, "1")


def _check(gpu: str, build: Build, make: Any, batches: list[np.ndarray]) -> None:
    inside = run_steps("keras", build, make, batches, device=gpu, jit=True)
    reference = run_steps("keras", build, make, batches, device="/CPU:0", backend="reference")
    assert inside.plan.fused
    assert_same_values(inside, reference)


@pytest.mark.usefixtures("asked_for")
@pytest.mark.parametrize("gpu", [on_gpu("/GPU:0", id="gpu")])
@pytest.mark.parametrize("name", NAMES)
def test_models(gpu: str, name: str) -> None:
    _check(gpu, MODELS[name].build, momentum, [inputs(MODELS[name])] * STEPS)


@pytest.mark.usefixtures("asked_for")
@pytest.mark.parametrize("gpu", [on_gpu("/GPU:0", id="gpu")])
@pytest.mark.parametrize("name", LOOKED_UP)
def test_tables(gpu: str, name: str) -> None:
    batches = [np.roll(IDS, step, axis=1) for step in range(STEPS)]
    _check(gpu, LOOKUPS[name].build, adam, batches)


def _plan(skip_nonfinite: bool = False) -> splitop.Plan:
    """Of a step on something that is taken for a GPU; it is not compiled."""
    kernel, optimizer = tf.Variable(tf.ones([3, 2])), keras.optimizers.Adam()
    optimizer.build([kernel])
    plans = []

    @tf.function(jit_compile=True)
    def step(x: Any) -> None:
        iv = tf.matmul(x, kernel)
        plans.append(splitop.plan(optimizer, iv, [kernel], skip_nonfinite=skip_nonfinite))

    step.get_concrete_function(tf.TensorSpec([4, 3]))
    return plans[0]


@pytest.fixture
def taken_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "may_be_on_gpu", lambda variable: True)


@pytest.mark.usefixtures("taken_for_a_gpu")
def test_has_to_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GPU_VARIABLE, raising=False)
    (reason,) = _plan().declined.values()
    assert reason == (
        "inside jit_compile=True on a GPU the op is experimental: it has never run there. "
        "SPLITOP_XLA_GPU=1 turns it on"
    )


@pytest.mark.usefixtures("taken_for_a_gpu", "asked_for")
def test_steps_that_may_be_left_out() -> None:
    assert _plan().fused
    (reason,) = _plan(skip_nonfinite=True).declined.values()
    assert "the host, which would leave out the step, does not wait" in reason


@pytest.mark.usefixtures("asked_for")
def test_steps_on_a_cpu_may_be_left_out() -> None:
    with tf.device("/CPU:0"):
        assert _plan(skip_nonfinite=True).fused
