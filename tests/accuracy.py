"""The accuracy rule: |result - oracle| <= 2 |plain - oracle| + a few ulp, in the max norm.

No tolerance is tuned by hand: the plain path (TensorFlow's, or NumPy's in the working dtype)
says what the problem allows. "A few ulp" are those of the terms that a result is summed up
from, carried through the formulas as in a running error analysis (Higham, Accuracy and
Stability of Numerical Algorithms, ch. 3): a sum that cancels may be off by more than a few
ulp of itself, and the plain path may be exact on it by luck.

In TF32 and 16 bits, the roundings that no path can do without (`Precision`) are carried through
the formulas likewise, once each: of a handful of elements, the plain path may round all by luck
to where they belong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from tests import oracle

FEW = 4


@dataclasses.dataclass(frozen=True)
class Precision:
    """What a step rounds, the plain one and the fused one alike.

    Attributes:
        variables: Dtype of the variables, of their slots and of all sums.
        tensors: Dtype of the seed, the inputs, G and dL/dx.
        factor_error: How far a factor of a product may be off, as a part of it.
    """

    variables: Any
    tensors: Any
    factor_error: float = 0.0

    @classmethod
    def of(cls, dtype: Any) -> Precision:
        """Everything in one dtype."""
        return cls(dtype, dtype)

    @property
    def mixed(self) -> bool:
        """Whether tensors have fewer bits than variables."""
        return np.dtype(self.tensors) != np.dtype(self.variables)

    def rounding(self, value: np.ndarray) -> np.ndarray:
        """The most by which a value changes when it is rounded to the tensors' dtype."""
        if not self.mixed:
            return np.zeros_like(value)
        info = ml_dtypes.finfo(self.tensors)
        return float(info.eps) / 2 * abs(value) + float(info.smallest_subnormal) / 2


PRECISIONS = {
    "float32": Precision.of(np.float32),
    "float64": Precision.of(np.float64),
    # The 10 bits of the mantissa that are left may be rounded or cut off: NVIDIA's choice.
    "tf32": Precision(np.float32, np.float32, factor_error=2.0**-10),
    "bfloat16": Precision(np.float32, ml_dtypes.bfloat16),
    "float16": Precision(np.float32, np.float16),
}


def few_ulp(
    seed: np.ndarray,
    layers: Sequence[oracle.Layer],
    rule: str,
    hyper: Sequence[float],
    precision: Any,
) -> dict[str, np.ndarray]:
    """A few ulp of every result of a dense chain's step, by the names of `results`.

    `precision` is a Precision, or the dtype of everything.
    """
    if not isinstance(precision, Precision):
        precision = Precision.of(precision)
    few = FEW * np.finfo(precision.variables).eps
    few_of_products = few + 2 * precision.factor_error
    dy = np.asarray(seed, np.float64)
    dy_error = np.zeros_like(dy)
    errors = {}
    for i, layer in enumerate(layers):
        factor = factor_size = np.ones_like(dy)
        if layer.reference is not None:
            reference = np.asarray(layer.reference, np.float64)
            activation = oracle.ACTIVATIONS[layer.activation]
            factor = activation.factor(reference, layer.alpha)
            factor_size = activation.factor_size(reference, layer.alpha)
        g = dy * factor
        g_error = dy_error * abs(factor) + few * abs(dy) * np.maximum(factor_size, few)
        if layer.reference is not None:
            g_error += precision.rounding(g)
        x = np.asarray(layer.x, np.float64)
        of_products = abs(x).T @ g_error + few_of_products * abs(x).T @ abs(g)
        parts = {"kernel": (x.T @ g, of_products)}
        if layer.bias is not None:
            parts["bias"] = (g.sum(0), g_error.sum(0) + few * abs(g).sum(0))
        for kind, (gradient, error) in parts.items():
            w, slots = getattr(layer, kind), getattr(layer, f"{kind}_slots")
            update = (w, slots, gradient, getattr(layer, f"{kind}_decayed"), rule, hyper)
            errors |= update_few_ulp(f"{kind} {i}", *update, error)
        read = layer.kernel if layer.kernel_copy is None else layer.kernel_copy
        weights = np.asarray(read, np.float64).T
        dy = g @ weights
        dy_error = g_error @ abs(weights) + few_of_products * abs(g) @ abs(weights)
        dy_error += precision.rounding(dy)
    errors["input gradient"] = dy_error
    return errors


def update_few_ulp(
    name: str,
    w: np.ndarray,
    slots: Sequence[np.ndarray],
    g: np.ndarray,
    decayed: bool,
    rule: str,
    hyper: Sequence[float],
    g_error: np.ndarray | float = 0.0,
) -> dict[str, np.ndarray]:
    """How far `oracle.update` moves when `g` is off by its error, plus a few ulp of `w`'s dtype."""
    few = FEW * np.finfo(w.dtype).eps

    def after(g: np.ndarray) -> dict[str, np.ndarray]:
        value, new_slots = oracle.update(w, slots, g, decayed, rule, hyper)
        return {name: value, **{f"{name} slot {s}": slot for s, slot in enumerate(new_slots)}}

    exact = after(g)
    errors = {key: few * abs(value) for key, value in exact.items()}
    for moved in (g - g_error, g + g_error):
        for key, value in after(moved).items():
            errors[key] = np.maximum(errors[key], few * abs(exact[key]) + abs(value - exact[key]))
    # The weight moves by a quotient of the slots; its rounding is relative to the move.
    errors[name] += few * abs(exact[name] - np.asarray(w, np.float64))
    return errors


def results(layers: Sequence[oracle.Layer], gradient: np.ndarray | None) -> dict[str, np.ndarray]:
    """All results of a step by name: "kernel 0", "bias 0 slot 1", "input gradient"."""
    named = {} if gradient is None else {"input gradient": gradient}
    for i, layer in enumerate(layers):
        named[f"kernel {i}"] = layer.kernel
        named |= {f"kernel {i} slot {s}": slot for s, slot in enumerate(layer.kernel_slots)}
        if layer.bias is not None:
            named[f"bias {i}"] = layer.bias
            named |= {f"bias {i} slot {s}": slot for s, slot in enumerate(layer.bias_slots)}
    return named


def assert_accurate(
    received: Mapping[str, np.ndarray],
    plain: Mapping[str, np.ndarray],
    exact: Mapping[str, np.ndarray],
    few: Mapping[str, np.ndarray],
) -> None:
    """Asserts the rule for every result; the arguments have the same keys."""
    assert received.keys() == plain.keys() == exact.keys()
    for name, value in exact.items():
        assert received[name].shape == value.shape, name
        error = _largest_error(received[name], value)
        bound = 2 * _largest_error(plain[name], value) + np.max(few[name], initial=0)
        assert error <= bound, f"{name} is off by {error:.3g}, allowed are {bound:.3g}"


def assert_as_close_as_orders(
    received: Mapping[str, np.ndarray],
    plain: Mapping[str, np.ndarray],
    others: Sequence[Mapping[str, np.ndarray]],
    start: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Asserts that a run is as close to the plain one as those that sum in other orders.

    For runs of many steps, in which errors grow: the plain path itself, with the rows of each
    batch in another order, says how far. The arguments have the same keys. With `start`, a few ulp
    are those of the largest value at either end: a weight that has shrunk was summed up from it.
    """
    assert received.keys() == plain.keys()
    for name, value in plain.items():
        assert np.all(np.isfinite(value)), name
        apart = max(_largest_error(other[name], value) for other in others)
        held = [value] if start is None else [value, start[name]]
        largest = max(np.max(np.abs(each), initial=0) for each in held)
        bound = 2 * apart + FEW * np.spacing(largest)
        difference = _largest_error(received[name], value)
        assert difference <= bound, f"{name}: {difference:.3g}, others {apart:.3g}"


def rounded_otherwise(value: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Numbers as another order of operations might have rounded them: off by an ulp at most."""
    ulp = random.integers(-1, 2, value.shape) * float(ml_dtypes.finfo(value.dtype).eps)
    return (value * (1 + ulp)).astype(value.dtype)


def _largest_error(value: np.ndarray, exact: np.ndarray) -> float:
    return np.max(np.abs(np.asarray(value, np.float64) - exact), initial=0)
