"""Measures what the device can do: a large copy, and large products."""

from __future__ import annotations

import contextlib
import statistics
from typing import Protocol

from benchmarks.gpu.cases import PRECISIONS
from benchmarks.gpu.costs import Limits
from benchmarks.gpu.device import Work

WARMUP = 3
ROUNDS = 15


class Yardstick(Protocol):
    """The part of a Device that this takes."""

    limit_bytes: int
    limit_extent: int

    def precision(self, name: str) -> contextlib.AbstractContextManager[None]: ...
    def seconds(self, work: Work) -> float: ...
    def copier(self) -> Work: ...
    def multiplier(self, dtype: str) -> Work: ...


def measure(device: Yardstick) -> Limits:
    """Measures all limits."""
    copy = 2 * device.limit_bytes / median_seconds(device, device.copier())
    flop = 2 * device.limit_extent**3
    gemm = {}
    for precision in PRECISIONS:
        dtype = "bfloat16" if precision == "bfloat16" else "float32"
        with device.precision(precision):
            gemm[precision] = flop / median_seconds(device, device.multiplier(dtype))
    return Limits(copy, gemm)


def median_seconds(device: Yardstick, work: Work) -> float:
    """How long the work takes once it is warm."""
    for _ in range(WARMUP):
        work()
    return statistics.median(device.seconds(work) for _ in range(ROUNDS))
