"""The second part's step given the seed, forward included, on each path."""

from __future__ import annotations

import gc

import keras
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import PATHS, Case
from benchmarks.interleave import RecordedClock, interleave, warm_up
from benchmarks.results import SECOND_PART
from benchmarks.steps import build_steps, check_agreement

CLOCK = RecordedClock()


@pytest.fixture(scope="module")
def seconds(case: Case) -> dict[str, list[float]]:
    """For each path, the seconds of each round: all paths in one process, in turn."""
    steps = build_steps(case)
    check_agreement(steps)
    runs = {path: step.run for path, step in steps.items()}
    warm_up(runs.values())
    measured = interleave(runs, case.rounds)
    # The largest case holds more than a gigabyte.
    del steps, runs
    keras.backend.clear_session()
    gc.collect()
    return measured


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("path", PATHS)
def test_second_part(
    benchmark: BenchmarkFixture, case: Case, path: str, seconds: dict[str, list[float]]
) -> None:
    benchmark.group = SECOND_PART + case.name
    benchmark.extra_info.update(
        path=path,
        layers=case.layers,
        width=case.width,
        batch=case.batch,
        parameters=case.parameters,
        dtype="float32",
        optimizer="Adam",
        target=case.target,
    )
    CLOCK.report(benchmark, seconds[path])
