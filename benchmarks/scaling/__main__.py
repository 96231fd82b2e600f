"""`python -m benchmarks.scaling`: what the model predicts; with `--measure`, how well it does."""

from __future__ import annotations

import argparse
import dataclasses
import os

from benchmarks.scaling.measure import measure
from benchmarks.scaling.model import IN_STORES, Step, seconds
from benchmarks.scaling.simulation import Simulation
from benchmarks.scaling.table import rows
from benchmarks.table import aligned

COUNTS = (1, 8, 64, 1000)
STEPS = 60
SCATTER = 0.2
# IV: 128 x 256 in float32. The software's share is splitop.ray's (benchmarks.scaling.ray_steps),
# with all processes on two cores: more than parts on machines of their own take.
PART = Step(
    second_parts=1,
    forward=5e-3,
    first=5e-3,
    update=10e-3,
    iv=131072,
    seed=131072,
    latency=1e-3,
    bandwidth=1.25e8,
    overhead=5e-3,
    overhead_each=6e-3,
    **IN_STORES,
)
WITHOUT_RAY = dict(overhead=0.0, overhead_each=0.0, iv_latencies=1, seed_latencies=1)
INT8 = dict(iv=32768, seed=32768, iv_latencies=1, seed_latencies=1)
SETTINGS = {
    "1 Gbit/s, 1 ms": {},
    "10 Gbit/s, 0.1 ms": dict(latency=1e-4, bandwidth=1.25e9),
    "100 Mbit/s, 20 ms": dict(latency=2e-2, bandwidth=1.25e7),
    "100 Mbit/s, 20 ms, int8": dict(latency=2e-2, bandwidth=1.25e7, **INT8),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--measure", action="store_true", help="over wires; needs root and Linux")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    print("\n".join(aligned(rows(measure())) if options.measure else _predicted()))


def _predicted() -> list[str]:
    table = [["network", "second parts", "no software", "ms a step", "scattered", "staleness 1"]]
    for name, changes in SETTINGS.items():
        for count in COUNTS:
            step = dataclasses.replace(PART, second_parts=count, **changes)
            stale = dataclasses.replace(step, staleness=1)
            cells = [
                seconds(dataclasses.replace(step, **WITHOUT_RAY)),
                seconds(step),
                Simulation(step, SCATTER).run(STEPS),
                Simulation(stale, SCATTER).run(STEPS),
            ]
            table.append([name, str(count), *(f"{1e3 * cell:.1f}" for cell in cells)])
    return aligned(table)


if __name__ == "__main__":
    main()
