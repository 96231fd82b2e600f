"""Trains in micro-batches on two replicas, in a process with two CPUs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop
from tests.distribute.replicas import strategy_of
from tests.micro_batches.models import Mask, contrastive

ROWS, SIZE = (7, 4), 3


def train(micro: bool) -> list[np.ndarray]:
    """Three steps; the plain path goes chunk by chunk too, and so draws the same masks."""
    strategy = strategy_of()
    random = np.random.default_rng(0)
    xs = [random.normal(size=(rows, 5)) for rows in ROWS]
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((5,)),
                keras.layers.Dense(6, "tanh", dtype="float64"),
                Mask(dtype="float64"),
                keras.layers.Dense(4, dtype="float64"),
            ]
        )
        optimizer = keras.optimizers.Adam(0.1)
        optimizer.build(model.trainable_variables)
    variables = model.trainable_variables

    def on_replica() -> None:
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        x = tf.constant(xs[int(tf.get_static_value(number))])
        if micro:
            chunks = splitop.MicroBatches(model, x, size=SIZE, state=model.non_trainable_variables)
            seeds = tf.gradients(contrastive(chunks.iv), chunks.iv)
            chunks.minimize(optimizer, variables, seeds[0])
            return
        parts = [model(x[start : start + SIZE]) for start in range(0, x.shape[0], SIZE)]
        iv = tf.concat(parts, 0)
        seeds = tf.gradients(contrastive(iv), iv)
        splitop.minimize(optimizer, iv, variables, seeds[0], backend="reference")

    step: Any = tf.function(lambda: strategy.run(on_replica), autograph=False)
    for _ in range(3):
        step()
    copies = [strategy.experimental_local_results(v.value) for v in variables]
    for values in copies:
        np.testing.assert_array_equal(*values)
    return [np.asarray(v) for v in (*model.variables, *optimizer.variables)]
