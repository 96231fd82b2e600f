"""Forward passes that run before the update of the step before: what that trains, by hand."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from splitop.ray import Batches
from tests.ray_parts import parts
from tests.ray_parts.test_protocol import make, state

STEPS, EVERY = 9, 4


def by_hand(staleness: int, batches: Batches) -> list[float]:
    """Each seed is that of an older IV; the gradient is that of the current weights."""
    second, first = parts.encoder_model("bank", 0.0), parts.head_model(("bank",), 0.0)
    optimizers = parts.second_optimizer(), parts.first_optimizer()
    losses, ivs = [], {}
    for step in range(STEPS):
        end = min(STEPS, (step // EVERY + 1) * EVERY)  # A save waits for all that was begun.
        for ahead in range(step, min(step + staleness + 1, end)):
            if ahead not in ivs:
                ivs[ahead] = second(inputs(batches(ahead)), training=True)
        rows = [parts.KEYS.index(key) for key in batches(step)]
        with tf.GradientTape() as tape:
            tape.watch(ivs[step])
            loss = parts.loss(parts.labels()[rows], first(ivs[step], training=True))
        variables = first.trainable_variables
        *gradients, seed = tape.gradient(loss, [*variables, ivs[step]])
        optimizers[1].apply(gradients, variables)
        statistics = second.non_trainable_variables
        kept = [variable.numpy() for variable in statistics]
        with tf.GradientTape() as tape:
            iv = second(inputs(batches(step)), training=True)
            penalty = tf.add_n(second.losses)
        variables = second.trainable_variables
        gradients = tape.gradient([iv, penalty], variables, [seed, tf.ones([])])
        for variable, value in zip(statistics, kept, strict=True):
            variable.assign(value)  # They move in the first forward pass alone.
        optimizers[0].apply(gradients, variables)
        losses.append(float(loss))
    return losses


def inputs(keys: np.ndarray) -> tf.Tensor:
    return tf.constant(parts.inputs("bank")[[parts.KEYS.index(key) for key in keys]])


@pytest.mark.parametrize("staleness", [0, 1, 2, 5])
def test_by_hand(tmp_path: pathlib.Path, staleness: int) -> None:
    batches = Batches(parts.KEYS[:36], 12, seed=1)
    trainer, _ = make(
        tmp_path,
        config={"dropout": 0.0},
        names=("bank",),
        staleness=staleness,
        save_every=EVERY,
    )
    losses = trainer.train(batches, STEPS)
    np.testing.assert_allclose(list(losses.values()), by_hand(staleness, batches), 2e-5)
    if staleness:
        fresh = by_hand(0, batches)
        assert abs(np.subtract(list(losses.values()), fresh)).max() > 1e-3


def test_it_goes_on_to_the_same_bits(tmp_path: pathlib.Path) -> None:
    batches = Batches(parts.KEYS[:36], 12, seed=1)
    whole, link = make(tmp_path / "whole", staleness=1, save_every=EVERY)
    losses = whole.train(batches, 8)
    for until in (4, 8):
        trainer, other = make(tmp_path / "parts", staleness=1, save_every=EVERY)
        found = trainer.train(batches, until)
        assert found.items() <= losses.items()
    for a, b in zip(state(link), state(other), strict=True):
        np.testing.assert_array_equal(a, b)
