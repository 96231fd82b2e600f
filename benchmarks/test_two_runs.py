"""The step of both parts of a model, in one run or in two, on each path."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import TWO_RUN_PATHS, TwoRunCase
from benchmarks.interleave import RecordedClock, interleave, warm_up
from benchmarks.results import TWO_RUNS
from benchmarks.two_run_steps import build_steps, check_agreement

CLOCK = RecordedClock()


@pytest.fixture(scope="module")
def seconds(two_run_case: TwoRunCase) -> dict[str, list[float]]:
    """For each path, the seconds of each round: all paths in one process, in turn."""
    steps = build_steps(two_run_case)
    check_agreement(steps)
    warm_up(steps.values())
    measured = interleave(steps, two_run_case.rounds)
    for step in steps.values():
        step.close()
    return measured


@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize("path", TWO_RUN_PATHS)
def test_two_runs(
    benchmark: BenchmarkFixture,
    two_run_case: TwoRunCase,
    path: str,
    seconds: dict[str, list[float]],
) -> None:
    case = two_run_case
    benchmark.group = TWO_RUNS + case.name
    benchmark.extra_info.update(
        path=path,
        layers=case.second.layers,
        width=case.second.width,
        batch=case.second.batch,
        classes=case.classes,
        dtype="float32",
        optimizer="Adam",
        target=case.target,
    )
    CLOCK.report(benchmark, seconds[path])
