"""What the op `Splitop>DenseChain` must compute, in plain float64 NumPy.

Written from the formulas in `csrc/include/splitop`, not from the kernels. Nothing here knows
TensorFlow. All functions return new float64 arrays and leave their arguments alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

Array = np.ndarray

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


@dataclasses.dataclass(frozen=True)
class Activation:
    """An activation: its value, and the factor of its gradient in terms of its reference.

    Attributes:
        forward: (z, alpha) -> y.
        factor: (reference, alpha) -> dy/dz.
        reads: Which tensor is the reference: "y", "z" or, for linear, "".
    """

    forward: Callable[[Array, float], Array]
    factor: Callable[[Array, float], Array]
    reads: str

    def reference(self, z: Array, alpha: float) -> Array | None:
        """The tensor that the gradient reads; None for linear."""
        return {"": None, "z": z, "y": self.forward(z, alpha)}[self.reads]


def _sigmoid(z: Array) -> Array:
    return np.exp(-np.logaddexp(0, -z))  # does not overflow


ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(lambda z, a: z, lambda r, a: np.ones_like(r), ""),
    "relu": Activation(lambda z, a: np.maximum(z, 0), lambda r, a: np.where(r > 0, 1, 0), "y"),
    "relu6": Activation(
        lambda z, a: np.clip(z, 0, 6), lambda r, a: np.where((r > 0) & (r < 6), 1, 0), "y"
    ),
    "leaky_relu": Activation(
        lambda z, a: np.where(z > 0, z, a * z), lambda r, a: np.where(r > 0, 1, a), "z"
    ),
    "elu": Activation(
        lambda z, a: np.where(z >= 0, z, np.expm1(z)),
        lambda r, a: np.where(r >= 0, 1, r + 1),
        "y",
    ),
    "selu": Activation(
        lambda z, a: SELU_SCALE * np.where(z >= 0, z, SELU_ALPHA * np.expm1(z)),
        lambda r, a: np.where(r >= 0, SELU_SCALE, r + SELU_SCALE * SELU_ALPHA),
        "y",
    ),
    "tanh": Activation(lambda z, a: np.tanh(z), lambda r, a: 1 - r * r, "y"),
    "sigmoid": Activation(lambda z, a: _sigmoid(z), lambda r, a: r * (1 - r), "y"),
    "softplus": Activation(lambda z, a: np.logaddexp(0, z), lambda r, a: _sigmoid(r), "z"),
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """An update rule.

    Attributes:
        hyper: Names of the hyperparameters; the first is always the weight decay.
        num_slots: State arrays a variable.
        step: (w, slots, g, hyper without decay) -> (w, slots).
    """

    hyper: tuple[str, ...]
    num_slots: int
    step: Callable[..., tuple[Array, tuple[Array, ...]]]


def _sgd(w: Array, slots: tuple[()], g: Array, lr: float) -> tuple[Array, tuple[()]]:
    return w - lr * g, ()


def _momentum(
    w: Array,
    slots: tuple[Array],
    g: Array,
    momentum: float,
    gradient_scale: float,
    slot_step: float,
    gradient_step: float,
) -> tuple[Array, tuple[Array]]:
    m = momentum * slots[0] + gradient_scale * g
    return w + slot_step * m + gradient_step * g, (m,)


def _adam(
    w: Array,
    slots: tuple[Array, Array],
    g: Array,
    step_size: float,
    one_minus_beta1: float,
    one_minus_beta2: float,
    epsilon: float,
) -> tuple[Array, tuple[Array, Array]]:
    m = slots[0] + (g - slots[0]) * one_minus_beta1
    v = slots[1] + (g * g - slots[1]) * one_minus_beta2
    return w - m * step_size / (np.sqrt(v) + epsilon), (m, v)


RULES: dict[str, Rule] = {
    "sgd": Rule(("decay", "lr"), 0, _sgd),
    "momentum": Rule(
        ("decay", "momentum", "gradient_scale", "slot_step", "gradient_step"), 1, _momentum
    ),
    "adam": Rule(("decay", "step_size", "one_minus_beta1", "one_minus_beta2", "epsilon"), 2, _adam),
}


@dataclasses.dataclass(frozen=True)
class Layer:
    """One dense layer's tensors; the fields are those of `splitop._src.ops.LayerArgs`."""

    x: Array
    reference: Array | None
    activation: str
    kernel: Array
    bias: Array | None = None
    alpha: float = 0.0
    kernel_slots: tuple[Array, ...] = ()
    bias_slots: tuple[Array, ...] = ()
    kernel_decayed: bool = False
    bias_decayed: bool = False
    kernel_copy: Array | None = None  # mixed precision: what dL/dx is computed with


def update(
    w: Array, slots: Sequence[Array], g: Array, decayed: bool, rule: str, hyper: Sequence[float]
) -> tuple[Array, tuple[Array, ...]]:
    """One variable and its slots after an update with gradient `g`."""
    decay, *rest = (float(h) for h in hyper)
    w = np.asarray(w, np.float64)
    slots = tuple(np.asarray(slot, np.float64) for slot in slots)
    return RULES[rule].step(w - decay * w if decayed else w, slots, g, *rest)


def _layer(dy: Array, layer: Layer, rule: str, hyper: Sequence[float]) -> tuple[Layer, Array]:
    g = dy
    if layer.reference is not None:
        factor = ACTIVATIONS[layer.activation].factor
        g = dy * factor(np.asarray(layer.reference, np.float64), layer.alpha)
    kernel, kernel_slots = update(
        layer.kernel,
        layer.kernel_slots,
        np.asarray(layer.x, np.float64).T @ g,
        layer.kernel_decayed,
        rule,
        hyper,
    )
    after = dataclasses.replace(layer, kernel=kernel, kernel_slots=kernel_slots)
    if layer.bias is not None:
        bias, bias_slots = update(
            layer.bias, layer.bias_slots, g.sum(axis=0), layer.bias_decayed, rule, hyper
        )
        after = dataclasses.replace(after, bias=bias, bias_slots=bias_slots)
    read = layer.kernel if layer.kernel_copy is None else layer.kernel_copy
    return after, g @ np.asarray(read, np.float64).T


def dense_chain(
    seed: Array, layers: Sequence[Layer], rule: str, hyper: Sequence[float]
) -> tuple[list[Layer], Array]:
    """The seeded backward pass and the update of a chain.

    Args:
        seed: dL/dy of the first layer, [batch, outputs].
        layers: From the top down.
        rule: Name of the update rule.
        hyper: Its hyperparameters.

    Returns:
        The layers with updated variables and slots, and dL/dx of the last layer.
    """
    dy = np.asarray(seed, np.float64)
    updated = []
    for layer in layers:
        after, dy = _layer(dy, layer, rule, hyper)
        updated.append(after)
    return updated, dy
