"""The step of models of several kinds, given the seed, on each path."""

from __future__ import annotations

import gc

import keras
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import PATHS, ModelCase
from benchmarks.interleave import RecordedClock, interleave, warm_up
from benchmarks.model_steps import build_steps, check_agreement
from benchmarks.results import MODELS

CLOCK = RecordedClock()


@pytest.fixture(scope="module")
def seconds(model_case: ModelCase) -> dict[str, list[float]]:
    """For each path, the seconds of each round: all paths in one process, in turn."""
    steps = build_steps(model_case)
    check_agreement(model_case, steps)
    warm_up(steps.values())
    measured = interleave(steps, model_case.rounds)
    del steps
    keras.backend.clear_session()
    gc.collect()
    return measured


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("path", PATHS)
def test_model(
    benchmark: BenchmarkFixture,
    model_case: ModelCase,
    path: str,
    seconds: dict[str, list[float]],
) -> None:
    benchmark.group = MODELS + model_case.name
    benchmark.extra_info.update(
        path=path,
        **model_case.sizes,
        batch=model_case.batch,
        dtype="float32",
        optimizer="Adam",
        target={},
    )
    CLOCK.report(benchmark, seconds[path])
