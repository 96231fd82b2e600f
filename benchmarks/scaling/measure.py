"""Steps on two hosts, over wires of several latencies and bandwidths, beside what is predicted."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.scaling.model import Step, seconds
from benchmarks.scaling.wire import command, wire

BATCH = 128
WIDTHS = (256, 2048)
# One way, in seconds; each way, in bytes a second.
WIRES = ((0.5e-3, 125e6), (2e-3, 125e6), (5e-3, 12.5e6), (20e-3, 12.5e6), (20e-3, 2.5e6))
# Far above what the processes can send.
NO_WIRE = (0.0, 1e12)
LIMIT = 300


@dataclasses.dataclass(frozen=True)
class Measured:
    """A measured step.

    Attributes:
        step: Its parts; the overhead is that of the first wire.
        received: Seconds that it took.
    """

    step: Step
    received: float

    @property
    def predicted(self) -> float:
        """Seconds by the model."""
        return seconds(self.step)


def measure() -> Iterator[Measured]:
    """Each width over each wire.

    The first wire carries everything at once: what a step takes there beyond its parts is the
    software's, and is taken for the overhead of the others.
    """
    for width in WIDTHS:
        alone = _run([], "alone", width)
        overhead = _across(*NO_WIRE, width) - sum(alone[k] for k in ("forward", "first", "update"))
        for latency, bandwidth in WIRES:
            step = Step(
                second_parts=1,
                forward=alone["forward"],
                first=alone["first"],
                update=alone["update"],
                iv=alone["iv"],
                seed=alone["seed"],
                latency=latency,
                bandwidth=bandwidth,
                overhead=overhead,
            )
            yield Measured(step, _across(latency, bandwidth, width))


def _across(latency: float, bandwidth: float, width: int) -> float:
    with wire(latency, bandwidth) as (a, b):
        second = subprocess.Popen(command(b, *_arguments("second", width)))
        try:
            step = _run(command(a), "first", width)["step"]
            second.wait(30)
        finally:
            second.kill()
            second.wait()
    return step


def _run(prefix: list[str], host: str, width: int) -> dict[str, float]:
    done = subprocess.run(
        prefix + _arguments(host, width),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=LIMIT,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _arguments(host: str, width: int) -> list[str]:
    sizes = ["--batch", str(BATCH), "--width", str(width)]
    return [sys.executable, "-m", "benchmarks.scaling.hosts", host, *sizes]
