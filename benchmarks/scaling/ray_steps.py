"""`python -m benchmarks.scaling.ray_steps`: steps of `splitop.ray` with several second parts.

The parts are as small as can be, so that a step is what Ray and splitop add to it.
"""

from __future__ import annotations

import tempfile
import time

import numpy as np

COUNTS = (1, 2, 4)
SAMPLES, BATCH, UNITS = 4096, 128, 256
WARMUP, STEPS = 30, 200
KEYS = np.arange(SAMPLES)


def encoder():
    """A second part: one dense layer."""
    import keras

    from splitop.ray import Rows, SecondPart

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(UNITS)])
    x = np.random.default_rng(0).normal(size=(SAMPLES, 4)).astype("f4")
    return SecondPart(model=model, optimizer=keras.optimizers.SGD(1e-2), data=Rows(KEYS, x))


def head(second_parts: int):
    """The first part of so many second parts."""
    import keras

    from splitop.ray import FirstPart, Rows

    ivs = [keras.Input((UNITS,)) for _ in range(second_parts)]
    joined = keras.layers.Add()(ivs) if second_parts > 1 else ivs[0]
    model = keras.Model(ivs if second_parts > 1 else ivs[0], keras.layers.Dense(1)(joined))
    labels = np.zeros((SAMPLES, 1), "f4")
    return FirstPart(
        model=model,
        optimizer=keras.optimizers.SGD(1e-2),
        loss=keras.losses.MeanSquaredError(),
        data=Rows(KEYS, labels),
    )


def milliseconds(second_parts: int, folder: str) -> float:
    """The median of single steps."""
    from splitop.ray import Batches, Party, Trainer

    ends = []
    seconds = [
        Party(f"part{n}", f"{__spec__.name}:encoder", f"{folder}/{n}", num_cpus=0)
        for n in range(second_parts)
    ]
    first = Party(
        "first",
        f"{__spec__.name}:head",
        f"{folder}/first",
        config={"second_parts": second_parts},
        num_cpus=0,
    )
    with Trainer(first=first, seconds=seconds, save_every=WARMUP + STEPS) as trainer:
        trainer.train(
            Batches(KEYS, BATCH, seed=1),
            until=WARMUP + STEPS,
            on_step=lambda step, loss: ends.append(time.perf_counter()),
        )
    return 1e3 * float(np.median(np.diff(ends)[WARMUP:]))


def main() -> None:
    import ray

    ray.init("local", log_to_driver=False, include_dashboard=False)
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{count} second parts: {milliseconds(count, folder):.2f} ms a step", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
