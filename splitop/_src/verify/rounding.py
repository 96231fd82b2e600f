"""How far the rounding of a step may move its results: see `splitop.verify` for the rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

# What a result may be off by, besides all that is measured: "a few ulp".
FEW = 4
# Runs from values that are moved by rounding.
MOVED_RUNS = 2

_PRODUCTS = ("MatMul", "BatchMatMul", "Conv", "DepthwiseConv", "Einsum", "XlaDot")
_SUMS = ("Sum", "Mean", "BiasAddGrad", "SegmentSum", "SparseSegment", "UnsortedSegmentSum")


def ulp(value: np.ndarray) -> float:
    """The unit in the last place of the largest magnitude of an array; 0 if it holds integers."""
    if not is_float(value.dtype):
        return 0.0
    info = ml_dtypes.finfo(value.dtype)
    largest = magnitude(value)
    if largest < float(info.smallest_normal):
        return float(info.smallest_subnormal)
    return float(info.eps) * 2.0 ** math.floor(math.log2(largest))


def magnitude(value: np.ndarray) -> float:
    """The largest magnitude among the finite elements."""
    exact = np.abs(np.asarray(value, np.float64))
    return float(np.max(exact[np.isfinite(exact)], initial=0))


def is_float(dtype: Any) -> bool:
    """Whether it is a floating dtype of NumPy's or of ml_dtypes'."""
    try:
        ml_dtypes.finfo(dtype)
    except ValueError:
        return False
    return True


def step_error(ops: Iterable[Any]) -> float:
    """The relative error of a step's sums: √n u.

    A sum of n products is off by about √n times the unit roundoff u of its dtype: Higham and
    Mary, A New Approach to Probabilistic Rounding Error Analysis, 2019. The largest among `ops` is
    taken, as far as shapes are known; an operation that is no sum has n = 1.
    """
    error = 0.0
    for op in ops:
        if any(tensor.dtype.is_floating for tensor in op.inputs):
            for tensor in op.outputs:
                if tensor.dtype.is_floating:
                    eps = float(ml_dtypes.finfo(tensor.dtype.as_numpy_dtype).eps)
                    error = max(error, math.sqrt(_terms(op)) * eps / 2)
    return error


def moved_start(
    values: Sequence[np.ndarray], trained: int, error: float, random: np.random.Generator
) -> list[np.ndarray]:
    """The values at the start of a run as rounding might have left them.

    Args:
        values: The trained variables, then the optimizers' state.
        trained: How many are trained. Scalars of the state are left alone: hyperparameters.
        error: By what part each element is off; it is at least an ulp.
        random: Gives the signs.
    """
    return [
        _moved(np.asarray(value), error, random)
        if index < trained or np.ndim(value)
        else np.asarray(value)
        for index, value in enumerate(values)
    ]


def _moved(value: np.ndarray, error: float, random: np.random.Generator) -> np.ndarray:
    if not is_float(value.dtype):
        return value
    error = max(error, float(ml_dtypes.finfo(value.dtype).eps))
    signs = random.choice([-1.0, 1.0], value.shape)
    return np.asarray(np.asarray(value, np.float64) * (1 + error * signs)).astype(value.dtype)


def _terms(op: Any) -> float:
    """About how many terms each element of an op's output is summed up from; 1 if it is no sum."""
    sizes = [
        tensor.shape.num_elements()
        for tensor in op.inputs
        if tensor.dtype.is_floating and tensor.shape.num_elements()
    ]
    if not sizes or not op.outputs:
        return 1.0
    output = op.outputs[0].shape.num_elements()
    if not output:
        return 1.0
    if op.type.startswith(_PRODUCTS) and len(sizes) >= 2:
        # [m, k] times [k, n] gives [m, n].
        return math.sqrt(sizes[-1] * sizes[-2] / output)
    if op.type.startswith(_SUMS):
        return sizes[0] / output
    return 1.0
