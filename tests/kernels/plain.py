"""The plain path that the kernels' errors are measured against: NumPy in the working dtype.

The same formulas as the oracle's, each product a BLAS call and each update elementwise, as
TensorFlow would run them, and what TensorFlow rounds is rounded: with 16-bit tensors, G, dL/dx
and the gradients of the variables are tensors of 16 bits too, whose sums are float32; in TF32
the factors of the products are rounded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tests import oracle


def dense_chain(
    seed: np.ndarray,
    layers: Sequence[oracle.Layer],
    rule: str,
    hyper: np.ndarray,
    *,
    tf32: bool = False,
) -> tuple[list[oracle.Layer], np.ndarray]:
    """`oracle.dense_chain` in the dtypes of the arguments."""
    wide = hyper.dtype

    def tensor(values: np.ndarray) -> np.ndarray:
        return values.astype(seed.dtype).astype(wide)

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return tensor(to_tf32(a) @ to_tf32(b) if tf32 else a @ b)

    dy, after = seed.astype(wide), []
    for layer in layers:
        g = dy
        if layer.reference is not None:
            factor = oracle.ACTIVATIONS[layer.activation].factor
            g = tensor(dy * factor(layer.reference.astype(wide), layer.alpha))
        gradient = product(layer.x.astype(wide).T, g)
        kernel, kernel_slots = update(
            layer.kernel, layer.kernel_slots, gradient, layer.kernel_decayed, rule, hyper
        )
        updated = dataclasses.replace(layer, kernel=kernel, kernel_slots=kernel_slots)
        if layer.bias is not None:
            gradient = tensor(g.sum(axis=0))
            bias, bias_slots = update(
                layer.bias, layer.bias_slots, gradient, layer.bias_decayed, rule, hyper
            )
            updated = dataclasses.replace(updated, bias=bias, bias_slots=bias_slots)
        after.append(updated)
        read = layer.kernel if layer.kernel_copy is None else layer.kernel_copy
        dy = product(g, read.astype(wide).T)
    return after, dy


def update(
    w: np.ndarray,
    slots: Sequence[np.ndarray],
    g: np.ndarray,
    decayed: bool,
    rule: str,
    hyper: np.ndarray,
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """`oracle.update` in the variable's dtype; the gradient may have fewer bits."""
    decay, *rest = hyper
    step = oracle.ALL_RULES[rule].step
    return step(w - decay * w if decayed else w, tuple(slots), g.astype(w.dtype), *rest)


def to_tf32(values: np.ndarray) -> np.ndarray:
    """Float32 values rounded to the 10 bits of mantissa that TF32 has."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
