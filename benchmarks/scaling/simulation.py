"""A step simulated message by message: parts that differ, times that scatter, cards that queue."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np

from benchmarks.scaling.model import Step


class Queue:
    """Something that does one thing at a time, in the order in which it is asked."""

    def __init__(self) -> None:
        self._free = 0.0

    def use(self, now: float, seconds: float) -> float:
        """When it is done with what is asked for now."""
        self._free = max(self._free, now) + seconds
        return self._free


class Simulation:
    """A training of `Step`'s parts.

    Args:
        step: Its times are the medians of those that are drawn.
        scatter: The standard deviation of the logarithm of each single time of a part; 0: none.
        seed: Of the random times.
    """

    def __init__(self, step: Step, scatter: float = 0.0, seed: int = 0) -> None:
        self._step = step
        self._random = np.random.default_rng(seed)
        self._scatter = scatter
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = 0
        self._first = Queue()
        self._card_in, self._card_out = Queue(), Queue()
        self._seconds = [Queue() for _ in range(step.second_parts)]
        # A second part does in order what it is asked for: with a staleness of s, the update of a
        # step after the forward pass s steps ahead, and before the one after that.
        self._forwarded, self._updated = ([-1] * step.second_parts for _ in range(2))
        self._forwards: set[tuple[int, int]] = set()  # What waits for its turn: step, part.
        self._updates: set[tuple[int, int]] = set()
        self._ivs: dict[int, int] = {}
        self._done: dict[int, int] = {}
        self._ends: list[float] = []
        self._last = 0

    def run(self, steps: int) -> float:
        """The mean seconds from one step to the next, once training is under way."""
        self._last = steps - 1
        for number in range(min(self._asked_ahead, steps)):
            self._go(0.0, number)
        while self._events:
            now, _, action = heapq.heappop(self._events)
            action(now)
        # Neither the start, when all are idle, nor the end, when no further step goes.
        # Steps that are under way together end in bursts, of which whole ones count.
        burst = (self._step.staleness + 1) * self._asked_ahead
        steady = self._ends[steps // 4 : steps - self._step.staleness]
        count = (len(steady) - 1) // burst * burst
        if count <= 0:
            raise ValueError(f"a staleness of {self._step.staleness} needs more steps than {steps}")
        return (steady[count] - steady[0]) / count

    @property
    def _asked_ahead(self) -> int:
        """How many steps are under way, those included that wait at a second part."""
        return 2 * self._step.staleness + 1

    def _at(self, when: float, action: Callable[[float], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, action))

    def _drawn(self, seconds: float) -> float:
        if self._scatter == 0:
            return seconds
        return seconds * float(np.exp(self._scatter * self._random.standard_normal()))

    def _go(self, now: float, step: int) -> None:
        """The forward passes of a step are asked for."""
        self._ivs[step] = self._done[step] = 0
        for part in range(self._step.second_parts):
            self._at(now + self._step.latency, lambda at, p=part: self._forward(at, step, p))

    def _forward(self, now: float, step: int, part: int) -> None:
        staleness = self._step.staleness
        if step > self._updated[part] + staleness + 1:
            self._forwards.add((step, part))
            return
        end = self._seconds[part].use(now, self._drawn(self._step.forward))
        self._forwarded[part] = step
        way = self._step.iv_latencies * self._step.latency
        self._at(end + way, lambda at: self._iv(at, step))
        if (step - staleness, part) in self._updates:
            self._updates.remove((step - staleness, part))
            self._update(now, step - staleness, part)

    def _iv(self, now: float, step: int) -> None:
        """An IV reaches the first part's card."""
        received = self._card_in.use(now, self._step.iv / self._step.bandwidth)
        self._at(received, lambda at: self._iv_is_there(at, step))

    def _iv_is_there(self, now: float, step: int) -> None:
        self._ivs[step] += 1
        if self._ivs[step] < self._step.second_parts:
            return
        end = self._first.use(now, self._drawn(self._step.first) + self._step.software)
        self._at(end, lambda at: self._seeds(at, step))

    def _seeds(self, now: float, step: int) -> None:
        for part in range(self._step.second_parts):
            sent = self._card_out.use(now, self._step.seed / self._step.bandwidth)
            arrives = sent + self._step.seed_latencies * self._step.latency
            self._at(arrives, lambda at, p=part: self._update(at, step, p))

    def _update(self, now: float, step: int, part: int) -> None:
        staleness = self._step.staleness
        if self._forwarded[part] < min(step + staleness, self._last):
            self._updates.add((step, part))
            return
        again = self._drawn(self._step.forward) if staleness else 0.0
        end = self._seconds[part].use(now, again + self._drawn(self._step.update))
        self._updated[part] = step
        self._at(end + self._step.latency, lambda at: self._is_done(at, step))
        if (step + staleness + 1, part) in self._forwards:
            self._forwards.remove((step + staleness + 1, part))
            self._forward(now, step + staleness + 1, part)

    def _is_done(self, now: float, step: int) -> None:
        self._done[step] += 1
        if self._done[step] < self._step.second_parts:
            return
        self._ends.append(now)
        following = step + self._asked_ahead
        if following <= self._last:
            self._go(now, following)
