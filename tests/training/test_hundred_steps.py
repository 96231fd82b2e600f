"""Fused and reference training of one model stay as close as rounding lets any two runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.accuracy import assert_as_close_as_orders
from tests.numerics.optimizers import KERAS, TF1
from tests.numerics.trainers import CPU, TRAINERS, ChainSpec, Path, State, random_state

STEPS = 100
BATCH = 48
# Smooth activations: a relu that rounding flips moves a whole unit, on any path.
SPECS = [ChainSpec((20, 32, 24, 8), "tanh", True), ChainSpec((12, 16, 8), "softplus", False)]
ORDERS = 4


def train(flavour: str, rule: str, backend: str, order: Sequence[int]) -> State:
    """A hundred steps on fixed data, the rows of each batch in the given order.

    The order changes nothing but the order of the sums over the batch.
    """
    recipe = (TF1 if flavour == "tf1" else KERAS)[rule]
    state = random_state(SPECS, recipe, np.float32)
    trainer = TRAINERS[flavour](SPECS, rule, Path(backend, CPU), "float32", state)
    random = np.random.default_rng(3)
    try:
        for _ in range(STEPS):
            xs = [random.normal(size=(BATCH, s.widths[0])) for s in SPECS]
            seeds = [0.1 * random.normal(size=(BATCH, s.widths[-1])) for s in SPECS]
            trainer.step(*([a[order].astype(np.float32) for a in arrays] for arrays in (xs, seeds)))
        return trainer.state()
    finally:
        trainer.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flavour", "rule"),
    [("tf1", "sgd"), ("tf1", "momentum"), ("tf1", "adam"), ("keras", "adamw"), ("keras", "adam")],
)
def test_as_close_as_two_orders_of_summation(flavour: str, rule: str) -> None:
    in_order = np.arange(BATCH)
    random = np.random.default_rng(4)
    reference = train(flavour, rule, "reference", in_order)
    others = [train(flavour, rule, "reference", random.permutation(BATCH)) for _ in range(ORDERS)]
    fused = train(flavour, rule, "fused", in_order)
    assert_as_close_as_orders(fused, reference, others)


@pytest.mark.parametrize("flavour", ["tf1", "keras"])
def test_the_same_bits_again(flavour: str) -> None:
    once, again = (train(flavour, "adam", "fused", np.arange(BATCH)) for _ in range(2))
    for name, value in once.items():
        assert value.tobytes() == again[name].tobytes(), name
