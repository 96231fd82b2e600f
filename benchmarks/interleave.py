"""Times several steps in turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

# TensorFlow's executor takes every operation for a costly one, worth another thread, and what it
# measures moves its estimate by a tenth: a small one is known for that after about so many steps.
WARM_STEPS = 100
WARM_SECONDS = 3.0


def warm_up(steps: Collection[Callable[[], object]], seconds: float = WARM_SECONDS) -> None:
    """Runs the steps in turn until they take as long as in a training that goes on.

    Args:
        steps: What is to be timed. Each is run equally often.
        seconds: How long, for each step, this takes at most, but for one round.
    """
    end = time.perf_counter() + seconds * len(steps)
    for _ in range(WARM_STEPS):
        for step in steps:
            step()
        if time.perf_counter() > end:
            break


def interleave(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Runs every step once a round; each round starts with another one.

    Returns:
        For each step, the seconds of each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    with without_garbage_collection():
        for number in range(rounds):
            for name in in_turn(steps, number):
                start = time.perf_counter()
                steps[name]()
                seconds[name].append(time.perf_counter() - start)
    return seconds


def medians(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median of each step's seconds, of steps that are warm and in turn."""
    warm_up(steps.values())
    taken = interleave(steps, rounds)
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


def in_turn(names: Iterable[str], number: int) -> list[str]:
    """The names in the order of a round; each round starts with another one."""
    names = list(names)
    first = number % len(names)
    return names[first:] + names[:first]


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collects now, and not while something is timed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


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
