"""One model trained in two ways: in two parts, and by Keras as a whole."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import splitop

Arrays = Sequence[np.ndarray]


def train_split(
    second: Any,
    first: Any,
    make_optimizers: tuple[Callable[[], Any], Callable[[], Any]],
    loss_fn: Any,
    inputs: Arrays,
    labels: np.ndarray,
    *,
    batch: int,
    epochs: int,
    sparse: str = "exact",
) -> None:
    """Trains both parts.

    Args:
        second: Keras model from `inputs` to one or several intermediate vectors.
        first: Keras model from these to what the loss takes.
        make_optimizers: Of the second part's optimizer, and of the first part's.
        loss_fn: Of labels and outputs.
        inputs: Arrays with a row for each example.
        labels: A row for each example.
        batch: Examples a step; the last batch may be smaller.
        epochs: How often all examples are gone through, in their order.
        sparse: See `splitop.minimize`.
    """
    second_optimizer, first_optimizer = (make() for make in make_optimizers)

    @tf.function(reduce_retracing=True)
    def step(x: Any, y: Any) -> None:
        ivs = second(x, training=True)
        loss = loss_fn(y, first(ivs, training=True))
        seeds = tf.gradients(loss, ivs)
        splitop.minimize(first_optimizer, loss, first.trainable_variables)
        variables = second.trainable_variables
        splitop.minimize(
            second_optimizer, list(tf.nest.flatten(ivs)), variables, seeds, sparse=sparse
        )

    for _, start in itertools.product(range(epochs), range(0, len(labels), batch)):
        rows = slice(start, start + batch)
        step([tf.constant(x[rows]) for x in inputs], tf.constant(labels[rows]))


def train_whole(
    model: Any,
    optimizer: Any,
    loss_fn: Any,
    inputs: Arrays,
    labels: np.ndarray,
    *,
    batch: int,
    epochs: int,
) -> None:
    """Trains a Keras model as Keras does."""
    model.compile(optimizer, loss_fn, jit_compile=False)
    options = {"shuffle": False, "verbose": 0}
    x = list(inputs) if len(inputs) > 1 else inputs[0]
    model.fit(x, labels, batch_size=batch, epochs=epochs, **options)


def joined(second: Any, first: Any) -> Any:
    """Both parts as one Keras model; it shares their variables."""
    inputs = [keras.Input(x.shape[1:], dtype=x.dtype) for x in second.inputs]
    return keras.Model(inputs, first(second(inputs)))


def outputs(second: Any, first: Any, inputs: Arrays) -> np.ndarray:
    """What the first part makes of the examples: one column or more."""
    return np.asarray(first(second([tf.constant(x) for x in inputs])))
