"""Second parts to train in micro-batches, in any dtype."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

BATCH, ROWS = 11, 23

layers = keras.layers


@dataclasses.dataclass(frozen=True)
class Case:
    """A second part.

    Attributes:
        build: Makes a Keras model whose layers have a dtype policy.
        inputs: Makes a batch of so many rows.
        tables: How many of its variables are embedding tables.
    """

    build: Callable[[str], keras.Model]
    inputs: Callable[[np.random.Generator, int], Any]
    tables: int = 0


def floats(*shape: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Makes batches of floats, which are the same in all dtypes."""
    return lambda random, rows: random.normal(size=(rows, *shape)).astype("float16")


def ids(length: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Makes batches of ids, of which some are repeated."""
    return lambda random, rows: random.integers(0, ROWS, (rows, length), "int32")


class Mask(keras.layers.Layer):
    """Dropout by a mask that is the same in all dtypes."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, x: Any) -> Any:
        kept = keras.random.uniform(keras.ops.shape(x), seed=self.seeds, dtype="float32") > 0.3
        return keras.ops.where(kept, x / 0.7, 0)


def _mlp(policy: str) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((7,)),
            layers.Dense(13, "tanh", dtype=policy),
            layers.LayerNormalization(dtype=policy),
            layers.Dense(9, "relu", dtype=policy),
            layers.Dense(5, dtype=policy),
        ]
    )


def _embeddings(policy: str) -> keras.Model:
    words, user = keras.Input((6,), dtype="int32"), keras.Input((1,), dtype="int32")
    x = layers.GlobalAveragePooling1D(dtype=policy)(layers.Embedding(ROWS, 5, dtype=policy)(words))
    y = layers.Flatten(dtype=policy)(layers.Embedding(ROWS, 3, dtype=policy)(user))
    z = layers.Dense(6, "tanh", dtype=policy)(layers.Concatenate(dtype=policy)([x, y]))
    return keras.Model([words, user], layers.Dense(4, dtype=policy)(z))


def _conv(policy: str) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.Conv2D(4, 3, activation="tanh", dtype=policy),
            layers.MaxPooling2D(dtype=policy),
            layers.Flatten(dtype=policy),
            layers.Dense(3, dtype=policy),
        ]
    )


def _several(policy: str) -> keras.Model:
    x = keras.Input((7,), name="x")
    hidden = layers.Dense(6, "tanh", dtype=policy)(x)
    left = layers.Dense(3, dtype=policy)(hidden)
    right = layers.Reshape((2, 4), dtype=policy)(layers.Dense(8, dtype=policy)(hidden))
    return keras.Model({"x": x}, {"left": left, "right": [right]})


def _dropout(policy: str) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((7,)),
            layers.Dense(13, "tanh", dtype=policy),
            Mask(dtype=policy),
            layers.Dense(5, dtype=policy),
            Mask(dtype=policy),
        ]
    )


def _normalised(policy: str) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((7,)),
            layers.Dense(6, dtype=policy),
            layers.BatchNormalization(momentum=0.7, dtype=policy),
            layers.Activation("tanh", dtype=policy),
            layers.Dense(5, dtype=policy),
        ]
    )


def _recurrent(policy: str) -> keras.Model:
    return keras.Sequential(
        [keras.Input((4, 3)), layers.GRU(5, dtype=policy), layers.Dense(4, dtype=policy)]
    )


CASES = {
    "mlp": Case(_mlp, floats(7)),
    "embeddings": Case(_embeddings, lambda r, n: [ids(6)(r, n), ids(1)(r, n)], tables=2),
    "conv": Case(_conv, floats(6, 5, 2)),
    "several": Case(_several, lambda r, n: {"x": floats(7)(r, n)}),
    "recurrent": Case(_recurrent, floats(4, 3)),
}
# Their results depend on the chunks, so that they are compared with chunks of plain TensorFlow.
BY_CHUNK = {"dropout": Case(_dropout, floats(7)), "normalised": Case(_normalised, floats(7))}


def contrastive(iv: Any) -> tf.Tensor:
    """A loss in which each row is compared with all others of the batch."""
    rows = [tf.reshape(each, [tf.shape(each)[0], -1]) for each in tf.nest.flatten(iv)]
    wide = tf.float64 if rows[0].dtype == tf.float64 else tf.float32
    rows = tf.cast(tf.concat(rows, 1), wide)
    similar = tf.matmul(rows, rows, transpose_b=True)
    return tf.reduce_mean(tf.reduce_logsumexp(similar, 1) - rows[:, 0])
