"""The time of a step of one first part and several second parts, in closed form.

All parts are alike here; `benchmarks.scaling.simulation` also has parts that differ and times that
scatter. The messages of a step, of which the last one starts the next step:

    first part's host:   go    ···IV arrives···  P  ···                ··· done
    each second part:       F  ···                  ···seed arrives··· U
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Step:
    """The parts of a step and what carries its messages. Seconds, bytes, bytes a second.

    Attributes:
        second_parts: How many second parts there are.
        forward: F, of a second part.
        first: P, the first part's forward and backward pass and update.
        update: U, a second part's backward pass and update.
        iv: Bytes of the IV of one second part.
        seed: Bytes of its dL/dIV.
        latency: One way, from the first part's host to a second part's.
        bandwidth: Of the first part's host, each way, shared by all second parts.
        overhead: What software adds to each step.
        overhead_each: What it adds to each step for each second part.
        staleness: How many batches' forward passes run ahead.
    """

    second_parts: int
    forward: float
    first: float
    update: float
    iv: float
    seed: float
    latency: float
    bandwidth: float
    overhead: float = 0.0
    overhead_each: float = 0.0
    staleness: int = 0

    @property
    def iv_transfer(self) -> float:
        """Seconds that all IVs take through the first part's network card."""
        return self.second_parts * self.iv / self.bandwidth

    @property
    def seed_transfer(self) -> float:
        """Seconds that all seeds take."""
        return self.second_parts * self.seed / self.bandwidth

    @property
    def software(self) -> float:
        """Seconds that software adds."""
        return self.overhead + self.second_parts * self.overhead_each


def once(step: Step) -> float:
    """Seconds from the start of a step to its end, with nothing else under way.

    Four messages follow each other: go, IV, seed, done.
    """
    compute = step.forward + step.first + step.update
    return compute + step.iv_transfer + step.seed_transfer + 4 * step.latency + step.software


def seconds(step: Step) -> float:
    """Seconds from one step to the next.

    Without staleness a step begins when the last one has ended. With a staleness of s there are
    s + 1 steps under way, as long as nothing of which there is one is busy all the time: the first
    part, its card in either direction, or a second part, which then computes its forward pass a
    second time, as its weights have moved.
    """
    if step.staleness == 0:
        return once(step)
    again = dataclasses.replace(step, update=step.forward + step.update)
    busy = (
        step.forward + again.update,
        step.first + step.software,
        step.iv_transfer,
        step.seed_transfer,
    )
    return max(*busy, once(again) / (step.staleness + 1))
