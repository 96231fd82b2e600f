"""Softmax and its gradient through the C ABI: what the ops have no way to ask for."""

from __future__ import annotations

import ctypes
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from splitop.lib import _kernels

FLOAT32, FLOAT64, FLOAT16 = 0, 1, 3
OK, INVALID_ARGUMENT = 0, 1

Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32)
Run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, Body, ctypes.c_void_p)


class Executor(ctypes.Structure):
    _fields_ = [("num_workers", ctypes.c_int32), ("run", Run), ("context", ctypes.c_void_p)]


class Softmax(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int),
        ("rows", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("x", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
    ]


class Gradient(ctypes.Structure):
    _fields_ = [*Softmax._fields_[:3], *((name, ctypes.c_void_p) for name in ("dy", "y", "dx"))]


@pytest.fixture
def library() -> ctypes.CDLL:
    path = pathlib.Path(_kernels.__file__).with_name("libsplitop_kernels.so")
    return ctypes.CDLL(str(path))


def executor(num_workers: int) -> Executor:
    """Its workers run one after the other, the last one first."""

    def run(_: Any, workers: int, body: Callable[[Any, int], None], context: Any) -> None:
        for worker in reversed(range(workers)):
            body(context, worker)

    return Executor(num_workers, Run(run), None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(700, 129), (70_000, 3), (5, 20_001)])
def test_the_same_bits_by_any_number_of_workers(
    library: ctypes.CDLL, shape: tuple[int, int], dtype: type, isa: str
) -> None:
    x, dy = np.random.default_rng(0).normal(size=(2, *shape)).astype(dtype)
    enum = FLOAT32 if dtype is np.float32 else FLOAT64
    found = []
    for workers in (1, 2, 3, 16):
        y, dx = np.full_like(x, np.nan), np.full_like(x, np.nan)
        call = Softmax(enum, *shape, x.ctypes.data, y.ctypes.data)
        by = executor(workers)
        assert library.splitop_cpu_softmax(ctypes.byref(call), ctypes.byref(by)) == OK
        gradient = Gradient(enum, *shape, dy.ctypes.data, y.ctypes.data, dx.ctypes.data)
        assert library.splitop_cpu_softmax_gradient(ctypes.byref(gradient), ctypes.byref(by)) == OK
        found.append((y, dx))
    np.testing.assert_allclose(found[0][0].sum(-1), 1, rtol=1e-3)
    for y, dx in found[1:]:
        np.testing.assert_array_equal(y, found[0][0])
        np.testing.assert_array_equal(dx, found[0][1])


@pytest.mark.parametrize(
    "changed", [{"x": None}, {"y": None}, {"rows": -1}, {"width": -1}, {"dtype": FLOAT16}]
)
def test_what_is_invalid_writes_nothing(library: ctypes.CDLL, changed: dict[str, Any]) -> None:
    x, y = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    call = Softmax(FLOAT32, 2, 3, x.ctypes.data, y.ctypes.data)
    for name, value in changed.items():
        setattr(call, name, value)
    by = executor(1)
    assert library.splitop_cpu_softmax(ctypes.byref(call), ctypes.byref(by)) == INVALID_ARGUMENT
    assert library.splitop_cpu_softmax(None, ctypes.byref(by)) == INVALID_ARGUMENT
    assert not y.any()
