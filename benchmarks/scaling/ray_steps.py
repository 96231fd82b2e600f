"""`python -m benchmarks.scaling.ray_steps`: steps of `splitop.ray` with several second parts.

The parts are as small as can be, so that a step is what Ray and splitop add to it. With `--wires`
the second parts are on another host than the first part and the trainer: see `wire.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.scaling.measure import LIMIT, NO_WIRE, Measured
from benchmarks.scaling.model import IN_STORES, Step
from benchmarks.scaling.ray_cluster import ADDRESS, RESOURCES, environment, nodes
from benchmarks.scaling.table import rows
from benchmarks.scaling.wire import ADDRESSES, command, wire
from benchmarks.table import aligned

SAMPLES, BATCH = 4096, 128
COUNTS = (1, 2, 4)
SMALL, LARGE = 128, 1024  # Units: IV is below 100 kB, or above, and takes other ways through Ray.
WIRES = ((5e-3, 12.5e6), (20e-3, 12.5e6))
WARMUP, STEPS = 10, 60
KEYS = np.arange(SAMPLES)


def encoder(units: int):
    """A second part: one dense layer."""
    import keras

    from splitop.ray import Rows, SecondPart

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
    x = np.random.default_rng(0).normal(size=(SAMPLES, 4)).astype("f4")
    return SecondPart(model=model, optimizer=keras.optimizers.SGD(1e-2), data=Rows(KEYS, x))


def head(second_parts: int, units: int):
    """The first part of so many second parts."""
    import keras

    from splitop.ray import FirstPart, Rows

    ivs = [keras.Input((units,)) for _ in range(second_parts)]
    joined = keras.layers.Add()(ivs) if second_parts > 1 else ivs[0]
    model = keras.Model(ivs if second_parts > 1 else ivs[0], keras.layers.Dense(1)(joined))
    labels = np.zeros((SAMPLES, 1), "f4")
    return FirstPart(
        model=model,
        optimizer=keras.optimizers.SGD(1e-2),
        loss=keras.losses.MeanSquaredError(),
        data=Rows(KEYS, labels),
    )


def seconds(second_parts: int, units: int, staleness: int, placed: bool) -> float:
    """The mean of all steps but the first few.

    Args:
        second_parts: How many.
        units: The width of each IV.
        staleness: As in splitop.ray.Trainer.
        placed: Whether the parts go to the nodes of `ray_cluster`.
    """
    from splitop.ray import Batches, Party, Trainer

    def party(name: str, node: str, function: str, **config: Any) -> Party:
        return Party(
            name,
            f"{__spec__.name}:{function}",
            f"{folder}/{name}",
            config={"units": units, **config},
            num_cpus=0,
            resources={node: 1} if placed else {},
        )

    ends = []
    with tempfile.TemporaryDirectory() as folder:
        first = party("first", RESOURCES[0], "head", second_parts=second_parts)
        others = [party(f"part{n}", RESOURCES[1], "encoder") for n in range(second_parts)]
        with Trainer(first, others, save_every=WARMUP + STEPS, staleness=staleness) as trainer:
            trainer.train(
                Batches(KEYS, BATCH, seed=1),
                until=WARMUP + STEPS,
                on_step=lambda step, loss: ends.append(time.perf_counter()),
            )
    return (ends[-1] - ends[WARMUP - 1]) / STEPS


def over_wires() -> Iterator[Measured]:
    """Each number of second parts over each wire; what software takes is measured without one."""
    settings = [(count, SMALL, staleness) for staleness in (0, 1) for count in COUNTS]
    settings += [(count, LARGE, 0) for count in COUNTS[:2]]
    fast = [setting for setting in settings if setting[2] == 0]
    overhead = dict(zip(fast, _across(*NO_WIRE, fast), strict=True))
    for latency, bandwidth in WIRES:
        for (count, units, staleness), received in zip(
            settings, _across(latency, bandwidth, settings), strict=True
        ):
            step = Step(
                second_parts=count,
                forward=0.0,
                first=0.0,
                update=0.0,
                iv=4.0 * BATCH * units,
                seed=4.0 * BATCH * units,
                latency=latency,
                bandwidth=bandwidth,
                overhead=overhead[count, units, 0],
                staleness=staleness,
                **(IN_STORES if units == LARGE else {}),
            )
            yield Measured(step, received)


def _across(latency: float, bandwidth: float, settings: list[tuple[int, int, int]]) -> list[float]:
    with wire(latency, bandwidth) as names, nodes(names):
        done = subprocess.run(
            command(
                names[0], sys.executable, "-m", __spec__.name, "--driver", json.dumps(settings)
            ),
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=LIMIT * len(settings),
        )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    import ray

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wires", action="store_true", help="on two hosts; needs root and Linux")
    parser.add_argument("--driver", type=json.loads, help="of the process that trains over a wire")
    options = parser.parse_args()
    if options.wires:
        print("\n".join(aligned(rows(over_wires()))))
        return
    if options.driver:
        ray.init(ADDRESS, log_to_driver=False, _node_ip_address=ADDRESSES[0])
        print(json.dumps([seconds(*setting, placed=True) for setting in options.driver]))
    else:
        ray.init("local", log_to_driver=False, include_dashboard=False)
        for count in COUNTS:
            taken = 1e3 * seconds(count, 2 * SMALL, 0, placed=False)
            print(f"{count} second parts: {taken:.2f} ms a step", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
