"""Chains whose forward pass the fused op runs: their references are known to a few ulp only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tests import oracle
from tests.accuracy import FEW, Precision, few_ulp, results


def with_forward(
    layers: Sequence[oracle.Layer], dtype, off: np.random.Generator | None = None
) -> list[oracle.Layer]:
    """The layers with a forward pass in `dtype` from the bottom layer's x.

    With `off` each z is off by a few ulp of what it is summed up from, and each y by a few ulp.
    """
    found: list[oracle.Layer] = []
    x = layers[-1].x.astype(dtype)
    for layer in reversed(layers):
        kernel = layer.kernel.astype(dtype)
        bias = dtype(0) if layer.bias is None else layer.bias.astype(dtype)
        activation = oracle.ACTIVATIONS[layer.activation]
        z = x @ kernel + bias
        if off is not None:
            z += few_ulp_of(layer, off, z.shape) * (abs(x) @ abs(kernel) + abs(bias))
        with np.errstate(over="ignore"):  # where the other side of z is taken
            y = activation.forward(z, layer.alpha).astype(dtype)
        if off is not None:
            y += few_ulp_of(layer, off, y.shape) * abs(y)
        reference = {"": None, "z": z, "y": y}[activation.reads]
        found.insert(0, dataclasses.replace(layer, x=x, reference=reference))
        x = y
    return found


def few_ulp_of(layer: oracle.Layer, random: np.random.Generator, shape) -> np.ndarray:
    """A few ulp of 1, up or down."""
    return FEW * np.finfo(layer.kernel.dtype).eps * random.choice([-1, 1], shape)


def few_ulp_of_both(
    seed: np.ndarray,
    layers: Sequence[oracle.Layer],
    rule: str,
    hyper: Sequence[float],
    precision: Precision,
) -> dict[str, np.ndarray]:
    """A few ulp of every result, those of the forward pass carried on to it."""
    exact = with_forward(layers, np.float64)
    errors = few_ulp(seed, exact, rule, hyper, precision)
    expected = results(*oracle.dense_chain(seed, exact, rule, hyper))
    random = np.random.default_rng(0)
    moved = dict.fromkeys(expected, np.float64(0))
    for _ in range(8):
        off = with_forward(layers, np.float64, random)
        for name, value in results(*oracle.dense_chain(seed, off, rule, hyper)).items():
            moved[name] = np.maximum(moved[name], abs(value - expected[name]))
    return {name: errors[name] + moved[name] for name in expected}
