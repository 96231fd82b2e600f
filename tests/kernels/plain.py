"""The plain path that the kernels' errors are measured against: NumPy in the working dtype.

The same formulas as the oracle's, each product a BLAS call and each update elementwise, as
TensorFlow would run them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tests import oracle


def dense_chain(
    seed: np.ndarray, layers: Sequence[oracle.Layer], rule: str, hyper: np.ndarray
) -> tuple[list[oracle.Layer], np.ndarray]:
    """`oracle.dense_chain` in the seed's dtype."""
    dy, after = seed, []
    for layer in layers:
        g = dy
        if layer.reference is not None:
            factor = oracle.ACTIVATIONS[layer.activation].factor
            g = (dy * factor(layer.reference, layer.alpha)).astype(seed.dtype)
        kernel, kernel_slots = _update(
            layer.kernel, layer.kernel_slots, layer.x.T @ g, layer.kernel_decayed, rule, hyper
        )
        updated = dataclasses.replace(layer, kernel=kernel, kernel_slots=kernel_slots)
        if layer.bias is not None:
            bias, bias_slots = _update(
                layer.bias, layer.bias_slots, g.sum(axis=0), layer.bias_decayed, rule, hyper
            )
            updated = dataclasses.replace(updated, bias=bias, bias_slots=bias_slots)
        after.append(updated)
        dy = g @ layer.kernel.T
    return after, dy


def _update(
    w: np.ndarray,
    slots: Sequence[np.ndarray],
    g: np.ndarray,
    decayed: bool,
    rule: str,
    hyper: np.ndarray,
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    decay, *rest = hyper
    return oracle.RULES[rule].step(w - decay * w if decayed else w, tuple(slots), g, *rest)
