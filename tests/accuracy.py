"""The accuracy rule: |result - oracle| <= 2 |plain - oracle| + a few ulp, in the max norm.

No tolerance is tuned by hand: the plain path (TensorFlow's, or NumPy's in the working dtype)
says what the problem allows. "A few ulp" are those of the terms that a result is summed up
from, carried through the formulas as in a running error analysis (Higham, Accuracy and
Stability of Numerical Algorithms, ch. 3): a sum that cancels may be off by more than a few
ulp of itself, and the plain path may be exact on it by luck.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests import oracle

FEW = 4


def few_ulp(
    seed: np.ndarray, layers: Sequence[oracle.Layer], rule: str, hyper: Sequence[float], dtype: Any
) -> dict[str, np.ndarray]:
    """A few ulp of every result of a dense chain's step, by the names of `results`."""
    few = FEW * np.finfo(dtype).eps
    dy = np.asarray(seed, np.float64)
    dy_error = np.zeros_like(dy)
    errors = {}
    for i, layer in enumerate(layers):
        factor = np.ones_like(dy)
        if layer.reference is not None:
            reference = np.asarray(layer.reference, np.float64)
            factor = oracle.ACTIVATIONS[layer.activation].factor(reference, layer.alpha)
        g = dy * factor
        g_error = dy_error * abs(factor) + few * abs(dy) * np.maximum(abs(factor), few)
        x = abs(np.asarray(layer.x, np.float64))
        parts = {f"kernel {i}": (x.T @ g_error + few * x.T @ abs(g), layer.x.T @ g)}
        if layer.bias is not None:
            parts[f"bias {i}"] = (g_error.sum(0) + few * abs(g).sum(0), g.sum(0))
        for name, (gradient_error, gradient) in parts.items():
            errors |= _update_errors(layer, name, gradient, gradient_error, rule, hyper, few)
        kernel = np.asarray(layer.kernel, np.float64)
        dy_error = g_error @ abs(kernel).T + few * abs(g) @ abs(kernel).T
        dy = g @ kernel.T
    errors["input gradient"] = dy_error
    return errors


def _update_errors(
    layer: oracle.Layer,
    name: str,
    gradient: np.ndarray,
    gradient_error: np.ndarray,
    rule: str,
    hyper: Sequence[float],
    few: float,
) -> dict[str, np.ndarray]:
    """How far the update moves when its gradient is off by its error, plus rounding."""
    kind = name.split()[0]
    w, slots = getattr(layer, kind), getattr(layer, f"{kind}_slots")
    decayed = getattr(layer, f"{kind}_decayed")

    def after(g: np.ndarray) -> dict[str, np.ndarray]:
        value, new_slots = oracle.update(w, slots, g, decayed, rule, hyper)
        return {name: value, **{f"{name} slot {s}": slot for s, slot in enumerate(new_slots)}}

    exact = after(gradient)
    errors = {key: few * abs(value) for key, value in exact.items()}
    for moved in (gradient - gradient_error, gradient + gradient_error):
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
        error = np.max(np.abs(received[name] - value))
        bound = 2 * np.max(np.abs(plain[name] - value)) + np.max(few[name])
        assert error <= bound, f"{name} is off by {error:.3g}, allowed are {bound:.3g}"
