"""The memory that an op needs for itself is that of its execution before."""

from __future__ import annotations

import resource

import keras
import numpy as np
import tensorflow as tf

import splitop

PAGE = resource.getpagesize()


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_no_pages_are_cleared_once_more() -> None:
    """Of some 40 MB that a step needs for itself: malloc would unmap them after each step."""
    batch = width = 1024
    depth = 4
    model = keras.Sequential([keras.layers.Dense(width, "relu") for _ in range(depth)])
    model.build((batch, width))
    optimizer = keras.optimizers.SGD(0.01)
    optimizer.build(model.trainable_variables)
    x, seed = tf.constant(np.random.default_rng(0).normal(size=(2, batch, width)), tf.float32)

    @tf.function
    def step() -> None:
        # The op runs the forward pass: there is no other large tensor.
        splitop.minimize(optimizer, model(x), model.trainable_variables, seed, backend="fused")

    for _ in range(3):
        step()
    before = _page_faults()
    for _ in range(5):
        step()
    assert _page_faults() - before < 4 * batch * width / PAGE
