"""Optimizers to train with, and what the oracle needs to know of each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

LR, MOMENTUM, BETA1, BETA2, EPSILON, DECAY = 0.002, 0.9, 0.9, 0.99, 1e-5, 0.05


@dataclasses.dataclass(frozen=True)
class Recipe:
    """An optimizer and its update in terms of the oracle's rules.

    Attributes:
        make: Makes the optimizer.
        rule: Name of the oracle's rule.
        hyper: The rule's hyperparameters at step t = 1, 2, ..., in exact arithmetic.
        slots: Names of the slots in the rule's order.
        decays: Whether weight decay applies.
    """

    make: Callable[[], Any]
    rule: str
    hyper: Callable[[int], tuple[float, ...]]
    slots: tuple[str, ...] = ()
    decays: bool = False


def _adam(t: int, decay: float = 0.0) -> tuple[float, ...]:
    step_size = LR * math.sqrt(1 - BETA2**t) / (1 - BETA1**t)
    return decay, step_size, 1 - BETA1, 1 - BETA2, EPSILON


_V1 = tf.compat.v1.train

TF1 = {
    "sgd": Recipe(lambda: _V1.GradientDescentOptimizer(LR), "sgd", lambda t: (0, LR)),
    "momentum": Recipe(
        lambda: _V1.MomentumOptimizer(LR, MOMENTUM),
        "momentum",
        lambda t: (0, MOMENTUM, 1, -LR, 0),
        ("momentum",),
    ),
    "nesterov": Recipe(
        lambda: _V1.MomentumOptimizer(LR, MOMENTUM, use_nesterov=True),
        "momentum",
        lambda t: (0, MOMENTUM, 1, -LR * MOMENTUM, -LR),
        ("momentum",),
    ),
    "adam": Recipe(lambda: _V1.AdamOptimizer(LR, BETA1, BETA2, EPSILON), "adam", _adam, ("m", "v")),
}

KERAS = {
    "sgd": Recipe(lambda: keras.optimizers.SGD(LR), "sgd", lambda t: (0, LR)),
    "momentum": Recipe(
        lambda: keras.optimizers.SGD(LR, momentum=MOMENTUM),
        "momentum",
        lambda t: (0, MOMENTUM, -LR, 1, 0),
        ("momentums",),
    ),
    "nesterov": Recipe(
        lambda: keras.optimizers.SGD(LR, momentum=MOMENTUM, nesterov=True),
        "momentum",
        lambda t: (0, MOMENTUM, -LR, MOMENTUM, -LR),
        ("momentums",),
    ),
    "sgd_decay": Recipe(
        lambda: keras.optimizers.SGD(LR, weight_decay=DECAY),
        "sgd",
        lambda t: (DECAY * LR, LR),
        decays=True,
    ),
    "adam": Recipe(
        lambda: keras.optimizers.Adam(LR, BETA1, BETA2, EPSILON),
        "adam",
        _adam,
        ("_momentums", "_velocities"),
    ),
    "adamw": Recipe(
        lambda: keras.optimizers.AdamW(LR, DECAY, BETA1, BETA2, EPSILON),
        "adam",
        lambda t: _adam(t, DECAY * LR),
        ("_momentums", "_velocities"),
        decays=True,
    ),
}
