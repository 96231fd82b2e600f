"""What the op `Splitop>DenseChain` must compute, in plain float64 NumPy.

Written from the formulas in `csrc/include/splitop`, not from the kernels. Nothing here knows
TensorFlow. All functions return new float64 arrays and leave their arguments alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

Array = np.ndarray

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


@dataclasses.dataclass(frozen=True)
class Activation:
    """An activation: its value, and the factor of its gradient in terms of its reference.

    Attributes:
        forward: (z, alpha) -> y.
        factor: (reference, alpha) -> dy/dz.
        reads: Which tensor is the reference: "y", "z" or, for linear, "".
        terms: What `factor` is summed up from, by absolute value, where terms may cancel.
    """

    forward: Callable[[Array, float], Array]
    factor: Callable[[Array, float], Array]
    reads: str
    terms: Callable[[Array, float], Array] | None = None

    def reference(self, z: Array, alpha: float) -> Array | None:
        """The tensor that the gradient reads; None for linear."""
        return {"": None, "z": z, "y": self.forward(z, alpha)}[self.reads]

    def factor_size(self, reference: Array, alpha: float) -> Array:
        """What the rounding of `factor` is relative to."""
        return (
            abs(self.factor(reference, alpha))
            if self.terms is None
            else self.terms(reference, alpha)
        )


def _sigmoid(z: Array) -> Array:
    return np.exp(-np.logaddexp(0, -z))  # does not overflow


def _normal_cdf(z: Array) -> Array:
    return np.array(_erfc(-z * math.sqrt(0.5)) / 2, z.dtype)


def _normal_density(z: Array) -> Array:
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


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
    "silu": Activation(
        lambda z, a: z * _sigmoid(z),
        lambda r, a: _sigmoid(r) * (1 + r * _sigmoid(-r)),
        "z",
        lambda r, a: _sigmoid(r) * (1 + abs(r) * _sigmoid(-r)),
    ),
    "gelu": Activation(
        lambda z, a: z * _normal_cdf(z),
        lambda r, a: _normal_cdf(r) + r * _normal_density(r),
        "z",
        lambda r, a: _normal_cdf(r) + abs(r) * _normal_density(r),
    ),
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """An update rule.

    Attributes:
        hyper: Names of the hyperparameters; the first is always the weight decay.
        slots: Names of the slots. Those in capitals are never negative.
        step: (w, slots, g, hyper without decay) -> (w, slots).
        rowwise: Whether slots have one element for each row, so that rows are updated as a whole.
    """

    hyper: tuple[str, ...]
    slots: tuple[str, ...]
    step: Callable[..., tuple[Array, tuple[Array, ...]]]
    rowwise: bool = False

    @property
    def num_slots(self) -> int:
        """State arrays a variable."""
        return len(self.slots)

    def slot_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a slot of a variable."""
        return shape[:1] if self.rowwise else shape


def _toward(average: Array, value: Array, rate: float) -> Array:
    return average + (value - average) * rate


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
    m = _toward(slots[0], g, one_minus_beta1)
    v = _toward(slots[1], g * g, one_minus_beta2)
    return w - m * step_size / (np.sqrt(v) + epsilon), (m, v)


def _amsgrad(
    w: Array,
    slots: tuple[Array, Array, Array],
    g: Array,
    step_size: float,
    one_minus_beta1: float,
    one_minus_beta2: float,
    epsilon: float,
) -> tuple[Array, tuple[Array, Array, Array]]:
    m = _toward(slots[0], g, one_minus_beta1)
    v = _toward(slots[1], g * g, one_minus_beta2)
    v_hat = np.maximum(slots[2], v)
    return w - m * step_size / (np.sqrt(v_hat) + epsilon), (m, v, v_hat)


def _adagrad(
    w: Array, slots: tuple[Array], g: Array, lr: float, epsilon: float
) -> tuple[Array, tuple[Array]]:
    a = slots[0] + g * g
    return w - lr * g / np.sqrt(a + epsilon), (a,)


def _rmsprop(
    w: Array, slots: tuple[Array], g: Array, lr: float, one_minus_rho: float, epsilon: float
) -> tuple[Array, tuple[Array]]:
    v = _toward(slots[0], g * g, one_minus_rho)
    return w - lr * g / np.sqrt(v + epsilon), (v,)


def _rmsprop_momentum(
    w: Array,
    slots: tuple[Array, Array],
    g: Array,
    lr: float,
    one_minus_rho: float,
    epsilon: float,
    momentum: float,
) -> tuple[Array, tuple[Array, Array]]:
    v = _toward(slots[0], g * g, one_minus_rho)
    b = momentum * slots[1] + lr * g / np.sqrt(v + epsilon)
    return w - b, (v, b)


def _rmsprop_centered(
    w: Array, slots: tuple[Array, Array], g: Array, lr: float, one_minus_rho: float, epsilon: float
) -> tuple[Array, tuple[Array, Array]]:
    v = _toward(slots[0], g * g, one_minus_rho)
    a = _toward(slots[1], g, one_minus_rho)
    return w - lr * g / np.sqrt(v - a * a + epsilon), (v, a)


def _rmsprop_centered_momentum(
    w: Array,
    slots: tuple[Array, Array, Array],
    g: Array,
    lr: float,
    one_minus_rho: float,
    epsilon: float,
    momentum: float,
) -> tuple[Array, tuple[Array, Array, Array]]:
    v = _toward(slots[0], g * g, one_minus_rho)
    a = _toward(slots[1], g, one_minus_rho)
    b = momentum * slots[2] + lr * g / np.sqrt(v - a * a + epsilon)
    return w - b, (v, a, b)


def _adadelta(
    w: Array, slots: tuple[Array, Array], g: Array, lr: float, one_minus_rho: float, epsilon: float
) -> tuple[Array, tuple[Array, Array]]:
    a = _toward(slots[0], g * g, one_minus_rho)
    step = np.sqrt(slots[1] + epsilon) * g / np.sqrt(a + epsilon)
    return w - lr * step, (a, _toward(slots[1], step * step, one_minus_rho))


def _adamax(
    w: Array,
    slots: tuple[Array, Array],
    g: Array,
    step_size: float,
    one_minus_beta1: float,
    beta2: float,
    epsilon: float,
) -> tuple[Array, tuple[Array, Array]]:
    m = _toward(slots[0], g, one_minus_beta1)
    u = np.maximum(beta2 * slots[1], abs(g))
    return w - step_size * m / (u + epsilon), (m, u)


def _nadam(
    w: Array,
    slots: tuple[Array, Array],
    g: Array,
    slot_step: float,
    gradient_step: float,
    one_minus_beta1: float,
    one_minus_beta2: float,
    v_scale: float,
    epsilon: float,
) -> tuple[Array, tuple[Array, Array]]:
    m = _toward(slots[0], g, one_minus_beta1)
    v = _toward(slots[1], g * g, one_minus_beta2)
    return w - (slot_step * m + gradient_step * g) / (np.sqrt(v * v_scale) + epsilon), (m, v)


def _ftrl(
    w: Array,
    slots: tuple[Array, Array],
    g: Array,
    lr: float,
    power: float,
    l1: float,
    twice_l2: float,
    twice_shrinkage: float,
) -> tuple[Array, tuple[Array, Array]]:
    a = slots[0] + g * g
    z = slots[1] + g + twice_shrinkage * w - (a**power - slots[0] ** power) / lr * w
    return (np.clip(z, -l1, l1) - z) / (a**power / lr + twice_l2), (a, z)


def _lion(
    w: Array,
    slots: tuple[Array],
    g: Array,
    lr: float,
    beta1: float,
    one_minus_beta1: float,
    beta2: float,
    one_minus_beta2: float,
) -> tuple[Array, tuple[Array]]:
    m = slots[0]
    return w - lr * np.sign(beta1 * m + one_minus_beta1 * g), (beta2 * m + one_minus_beta2 * g,)


def _rowwise_adagrad(
    w: Array, slots: tuple[Array], g: Array, lr: float, epsilon: float
) -> tuple[Array, tuple[Array]]:
    row = g.shape[1:]
    squares = np.sum(g * g, axis=tuple(range(1, g.ndim)))
    a = slots[0] + squares / g.dtype.type(max(1, math.prod(row)))
    return w - lr * g / (np.sqrt(a) + epsilon)[(..., *[np.newaxis] * len(row))], (a,)


_ADAM_HYPER = ("decay", "step_size", "one_minus_beta1", "one_minus_beta2", "epsilon")
_RMSPROP_HYPER = ("decay", "lr", "one_minus_rho", "epsilon")

RULES: dict[str, Rule] = {
    "sgd": Rule(("decay", "lr"), (), _sgd),
    "momentum": Rule(
        ("decay", "momentum", "gradient_scale", "slot_step", "gradient_step"), ("m",), _momentum
    ),
    "adam": Rule(_ADAM_HYPER, ("m", "V"), _adam),
    "amsgrad": Rule(_ADAM_HYPER, ("m", "V", "V_HAT"), _amsgrad),
    "adagrad": Rule(("decay", "lr", "epsilon"), ("A",), _adagrad),
    "rmsprop": Rule(_RMSPROP_HYPER, ("V",), _rmsprop),
    "rmsprop_momentum": Rule((*_RMSPROP_HYPER, "momentum"), ("V", "b"), _rmsprop_momentum),
    "rmsprop_centered": Rule(_RMSPROP_HYPER, ("V", "a"), _rmsprop_centered),
    "rmsprop_centered_momentum": Rule(
        (*_RMSPROP_HYPER, "momentum"), ("V", "a", "b"), _rmsprop_centered_momentum
    ),
    "adadelta": Rule(_RMSPROP_HYPER, ("A", "D"), _adadelta),
    "adamax": Rule(
        ("decay", "step_size", "one_minus_beta1", "beta2", "epsilon"), ("m", "U"), _adamax
    ),
    "nadam": Rule(
        (
            "decay",
            "slot_step",
            "gradient_step",
            "one_minus_beta1",
            "one_minus_beta2",
            "v_scale",
            "epsilon",
        ),
        ("m", "V"),
        _nadam,
    ),
    "ftrl": Rule(("decay", "lr", "power", "l1", "twice_l2", "twice_shrinkage"), ("A", "z"), _ftrl),
    "lion": Rule(
        ("decay", "lr", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2"), ("m",), _lion
    ),
}

# The rules that the op with a backward pass does not have.
ROWWISE_RULES: dict[str, Rule] = {
    "rowwise_adagrad": Rule(("decay", "lr", "epsilon"), ("A",), _rowwise_adagrad, rowwise=True),
}
ALL_RULES = RULES | ROWWISE_RULES


def random_slots(
    rule: str, shape: tuple[int, ...], random: np.random.Generator
) -> tuple[Array, ...]:
    """Slots that the rule may have left behind."""
    slots = ALL_RULES[rule].slots
    shape = ALL_RULES[rule].slot_shape(shape)
    signed = [0.1 * random.normal(size=shape) for _ in slots]
    # An average of squares is not below the square of the average.
    largest = np.max(np.square(signed), axis=0, initial=0)
    return tuple(
        largest + 0.01 + 0.1 * random.random(shape) if name.isupper() else values
        for name, values in zip(slots, signed, strict=True)
    )


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
    return ALL_RULES[rule].step(w - decay * w if decayed else w, slots, g, *rest)


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
