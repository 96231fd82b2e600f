"""The emulated device with NumPy's arrays: proves that the benchmark works, where torch is not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from benchmarks.gpu.device import Array, Work, host_seconds
from splitop.lib import _kernels

DTYPES: dict[str, Any] = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}


class NumpyDevice:
    """Implements Device."""

    clock = "host"
    max_sets = 2
    limit_bytes = 1 << 20
    limit_extent = 64

    def __init__(self) -> None:
        (facts, *_) = _kernels.cuda_devices()
        self.name = facts["name"]
        self.l2_bytes = facts["l2_bytes"]
        self._random = np.random.default_rng(0)

    def normal(self, shape: Sequence[int], dtype: str, scale: float = 1.0) -> Array:
        values = self._random.standard_normal(shape, np.float32) * np.float32(scale)
        return values.astype(DTYPES[dtype])

    def vector(self, values: Sequence[float]) -> Array:
        return np.array(values, np.float32)

    def assign(self, array: Array, values: Any) -> None:
        array[...] = values

    def clone(self, array: Array) -> Array:
        return array.copy()

    def cast(self, array: Array, dtype: str) -> Array:
        return array.astype(DTYPES[dtype])

    def dense(self, x: Array, kernel: Array, bias: Array) -> Array:
        z = x.astype(np.float32) @ kernel.astype(np.float32) + bias.astype(np.float32)
        return np.maximum(z, 0).astype(x.dtype)

    def distance(self, a: Array, b: Array) -> float:
        return float(np.linalg.norm(a.astype(np.float64) - b.astype(np.float64)))

    def scratch(self, size: int) -> Array | None:
        if size == 0:
            return None
        room = np.empty(size + 256, np.uint8)
        start = -room.ctypes.data % 256
        return room[start : start + size]

    def stream(self) -> int:
        return 0

    @contextlib.contextmanager
    def precision(self, name: str) -> Iterator[None]:
        yield

    def synchronize(self) -> None:
        pass

    def seconds(self, work: Work) -> float:
        return host_seconds(work)

    def capture(self, work: Work) -> Work:
        work()
        return work

    def peak_bytes(self, work: Work) -> int | None:
        work()
        return None

    def copier(self) -> Work:
        source = self.normal([self.limit_bytes // 4], "float32")
        target = np.empty_like(source)
        return lambda: np.copyto(target, source)

    def multiplier(self, dtype: str) -> Work:
        a, b = (self.normal([self.limit_extent] * 2, dtype) for _ in range(2))
        return lambda: a.astype(np.float32) @ b.astype(np.float32)
