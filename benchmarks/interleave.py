"""Times several steps in turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping

from pytest_benchmark.fixture import BenchmarkFixture


def interleave(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Runs every step once a round; each round starts with another one.

    Returns:
        For each step, the seconds of each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                start = time.perf_counter()
                steps[name]()
                seconds[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return seconds


class RecordedClock:
    """A timer for pytest-benchmark that replays times measured before.

    pytest-benchmark times one function after the other. Times that were measured in turn
    reach its statistics and its JSON through a clock that only moves when it is told to.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def report(self, benchmark: BenchmarkFixture, seconds: list[float]) -> None:
        """Reports the seconds of each round as a benchmark whose timer is this clock."""
        rounds = iter(seconds)

        def next_round() -> tuple[tuple[float], dict[str, object]]:
            self._now = 0.0
            return (next(rounds),), {}

        def advance(duration: float) -> None:
            self._now = duration

        benchmark.pedantic(advance, setup=next_round, rounds=len(seconds))
