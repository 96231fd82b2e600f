"""The time of a step of one first part and several second parts, in closed form.

All parts are alike here; `benchmarks.scaling.simulation` also has parts that differ and times that
scatter. The messages of a step, of which the last one starts the next step:

    first part's host:   go    ···IV arrives···  P  ···                ··· done
    each second part:       F  ···                  ···seed arrives··· U
"""

from __future__ import annotations

import dataclasses

# Arrays from 100 kB on in Ray: an IV is asked for when the reply is there that says so; for a seed
# the second part's host first asks the trainer where it is.
IN_STORES = {"iv_latencies": 3, "seed_latencies": 5}


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
        iv_latencies: How many of them an IV takes; more than one where it is asked for first.
        seed_latencies: How many dL/dIV takes.
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
    iv_latencies: int = 1
    seed_latencies: int = 1
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
    latencies = 2 + step.iv_latencies + step.seed_latencies
    transfers = step.iv_transfer + step.seed_transfer
    return compute + transfers + latencies * step.latency + step.software


def seconds(step: Step) -> float:
    """Seconds from one step to the next.

    Without staleness a step begins when the last one has ended. With a staleness of s, as
    `splitop.ray` has it, the forward pass of step n is asked for when step n - 2s - 1 is done, and
    runs when the second part has made step n - s - 1; as long as nothing of which there is one is
    busy all the time: the first part, its card in either direction, or a second part, which then
    computes its forward pass a second time, as its weights have moved.
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
    # The second parts get their seeds one after the other, and send their next IVs meanwhile.
    sent_meanwhile = (step.second_parts - 1) * min(step.iv, step.seed) / step.bandwidth
    from_update_to_update = once(again) - 2 * step.latency - sent_meanwhile
    return max(
        *busy,
        from_update_to_update / (step.staleness + 1),
        once(again) / (2 * step.staleness + 1),
    )
