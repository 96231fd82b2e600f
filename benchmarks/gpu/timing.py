"""Times several candidates in turn, and what is kept of it."""

from __future__ import annotations

import dataclasses
import gc
import math
import statistics
from collections.abc import Callable, Mapping

# At least this much is timed at once. By the host's clock the end of a block is waited for, which
# must be small beside it.
BLOCK_SECONDS = 2e-3
HOST_BLOCK_SECONDS = 40e-3
ROUNDS = 15
FEWEST_ROUNDS = 5
CASE_SECONDS = 1.5  # rounds are left out where they would take longer


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of a step: median and quartiles, of so many rounds."""

    median: float
    low: float
    high: float
    rounds: int


def repeats(block_seconds: float, pass_seconds: float) -> int:
    """Passes that are timed at once."""
    return max(1, math.ceil(block_seconds / max(pass_seconds, 1e-9)))


def affordable_rounds(round_seconds: float, most: int = ROUNDS) -> int:
    return max(min(FEWEST_ROUNDS, most), min(most, int(CASE_SECONDS / max(round_seconds, 1e-9))))


def measure(samplers: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Times]:
    """Calls every sampler once a round, each round beginning with another one.

    Args:
        samplers: Each runs a block of steps and returns the seconds a step.
        rounds: How often.
    """
    samples: dict[str, list[float]] = {name: [] for name in samplers}
    names = list(samplers)
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                samples[name].append(samplers[name]())
    finally:
        gc.enable()
    return {name: summary(seconds) for name, seconds in samples.items()}


def summary(seconds: list[float]) -> Times:
    if len(seconds) == 1:
        return Times(seconds[0], seconds[0], seconds[0], 1)
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Times(median, low, high, len(seconds))
