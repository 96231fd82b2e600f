"""Hyperparameters and non-zero optimizer state for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests import oracle

# In each rule's order; none is what makes a term vanish.
HYPER: dict[str, tuple[float, ...]] = {
    "sgd": (0.01, 0.1),
    "momentum": (0.01, 0.9, -0.1, 0.9, -0.1),
    "adam": (0.01, 0.01, 0.1, 0.001, 1e-7),
    "amsgrad": (0.01, 0.01, 0.1, 0.001, 1e-7),
    "adagrad": (0.01, 0.1, 1e-7),
    "rmsprop": (0.01, 0.01, 0.1, 1e-7),
    "rmsprop_momentum": (0.01, 0.01, 0.1, 1e-7, 0.9),
    "rmsprop_centered": (0.01, 0.01, 0.1, 1e-7),
    "rmsprop_centered_momentum": (0.01, 0.01, 0.1, 1e-7, 0.9),
    "adadelta": (0.01, 0.5, 0.05, 1e-7),
    "adamax": (0.01, 0.01, 0.1, 0.999, 1e-7),
    "nadam": (0.01, 0.008, 0.003, 0.1, 0.001, 1.5, 1e-7),
    "ftrl": (0.01, 0.1, 0.5, 0.01, 0.02, 0.01),
    "lion": (0.01, 0.01, 0.9, 0.1, 0.99, 0.01),
    "rowwise_adagrad": (0.01, 0.1, 1e-7),
}


def make_slots(
    random: np.random.Generator, rule: str, shape: tuple[int, ...], dtype: Any
) -> tuple[np.ndarray, ...]:
    """`oracle.random_slots` in a dtype."""
    return tuple(np.array(slot, dtype) for slot in oracle.random_slots(rule, shape, random))
