"""Optimizers to train with, and what the oracle needs to know of each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from splitop.keras import RowwiseAdagrad

LR, MOMENTUM, BETA1, BETA2, EPSILON, DECAY = 0.002, 0.9, 0.9, 0.99, 1e-5, 0.05
RHO, L1, L2, SHRINKAGE, BETA = 0.8, 0.02, 0.03, 0.04, 0.05


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


def u_product(t: int) -> float:
    """Nadam's product of all u up to step t."""
    return math.prod(_u(step) for step in range(1, t + 1))


def _u(t: int) -> float:
    return BETA1 * (1 - 0.5 * 0.96**t)


def _nadam(t: int) -> tuple[float, ...]:
    slot_step = LR * _u(t + 1) / (1 - u_product(t + 1))
    gradient_step = LR * (1 - _u(t)) / (1 - u_product(t))
    return 0, slot_step, gradient_step, 1 - BETA1, 1 - BETA2, 1 / (1 - BETA2**t), EPSILON


def _rmsprop(t: int) -> tuple[float, ...]:
    return 0, LR, 1 - RHO, EPSILON


def _rmsprop_momentum(t: int) -> tuple[float, ...]:
    return *_rmsprop(t), MOMENTUM


def _ftrl(t: int) -> tuple[float, ...]:
    return 0, LR, 0.5, L1, 2 * (L2 + BETA / (2 * LR)), 2 * SHRINKAGE


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
    "adagrad": Recipe(
        lambda: _V1.AdagradOptimizer(LR), "adagrad", lambda t: (0, LR, 0), ("accumulator",)
    ),
    "rmsprop": Recipe(
        lambda: _V1.RMSPropOptimizer(LR, RHO, MOMENTUM, EPSILON),
        "rmsprop_momentum",
        _rmsprop_momentum,
        ("rms", "momentum"),
    ),
    "rmsprop_centered": Recipe(
        lambda: _V1.RMSPropOptimizer(LR, RHO, MOMENTUM, EPSILON, centered=True),
        "rmsprop_centered_momentum",
        _rmsprop_momentum,
        ("rms", "mg", "momentum"),
    ),
    "adadelta": Recipe(
        lambda: _V1.AdadeltaOptimizer(LR, RHO, EPSILON),
        "adadelta",
        _rmsprop,
        ("accum", "accum_update"),
    ),
    "ftrl": Recipe(
        lambda: _V1.FtrlOptimizer(
            LR, -0.5, 0.1, L1, L2, l2_shrinkage_regularization_strength=SHRINKAGE, beta=BETA
        ),
        "ftrl",
        _ftrl,
        ("accum", "linear"),
    ),
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
    "amsgrad": Recipe(
        lambda: keras.optimizers.Adam(LR, BETA1, BETA2, EPSILON, amsgrad=True),
        "amsgrad",
        _adam,
        ("_momentums", "_velocities", "_velocity_hats"),
    ),
    "adagrad": Recipe(
        lambda: keras.optimizers.Adagrad(LR, 0.1, EPSILON),
        "adagrad",
        lambda t: (0, LR, EPSILON),
        ("_accumulators",),
    ),
    "rmsprop": Recipe(
        lambda: keras.optimizers.RMSprop(LR, RHO, 0.0, EPSILON),
        "rmsprop",
        _rmsprop,
        ("_velocities",),
    ),
    "rmsprop_momentum": Recipe(
        lambda: keras.optimizers.RMSprop(LR, RHO, MOMENTUM, EPSILON),
        "rmsprop_momentum",
        _rmsprop_momentum,
        ("_velocities", "_momentums"),
    ),
    "rmsprop_centered": Recipe(
        lambda: keras.optimizers.RMSprop(LR, RHO, 0.0, EPSILON, centered=True),
        "rmsprop_centered",
        _rmsprop,
        ("_velocities", "_average_gradients"),
    ),
    "rmsprop_centered_momentum": Recipe(
        lambda: keras.optimizers.RMSprop(LR, RHO, MOMENTUM, EPSILON, centered=True),
        "rmsprop_centered_momentum",
        _rmsprop_momentum,
        ("_velocities", "_average_gradients", "_momentums"),
    ),
    "adadelta": Recipe(
        lambda: keras.optimizers.Adadelta(LR, RHO, EPSILON),
        "adadelta",
        _rmsprop,
        ("_accumulated_grads", "_accumulated_delta_vars"),
    ),
    "adamax": Recipe(
        lambda: keras.optimizers.Adamax(LR, BETA1, BETA2, EPSILON),
        "adamax",
        lambda t: (0, LR / (1 - BETA1**t), 1 - BETA1, BETA2, EPSILON),
        ("_m", "_u"),
    ),
    "nadam": Recipe(
        lambda: keras.optimizers.Nadam(LR, BETA1, BETA2, EPSILON),
        "nadam",
        _nadam,
        ("_momentums", "_velocities"),
    ),
    "ftrl": Recipe(
        lambda: keras.optimizers.Ftrl(LR, -0.5, 0.1, L1, L2, SHRINKAGE, BETA),
        "ftrl",
        _ftrl,
        ("_accumulators", "_linears"),
    ),
    "lion": Recipe(
        lambda: keras.optimizers.Lion(LR, BETA1, BETA2),
        "lion",
        lambda t: (0, LR, BETA1, 1 - BETA1, BETA2, 1 - BETA2),
        ("_momentums",),
    ),
    "rowwise_adagrad": Recipe(
        lambda: RowwiseAdagrad(LR, 0.1, EPSILON),
        "rowwise_adagrad",
        lambda t: (0, LR, EPSILON),
        ("_accumulators",),
    ),
}
