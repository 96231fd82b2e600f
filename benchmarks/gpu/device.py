"""Where the arrays of the kernels' part live, and how work on them is timed."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

Array = Any
Work = Callable[[], object]


class Device(Protocol):
    """A GPU and the library that holds arrays on it.

    Attributes:
        name: Of the device.
        clock: What `seconds` reads.
        l2_bytes: Of its last cache.
        max_sets: Input sets that are worth rotating.
        limit_bytes: Bytes that are copied to measure the copy rate.
        limit_extent: Extent of the matrices that are multiplied to measure the product's rate.
    """

    name: str
    clock: str
    l2_bytes: int
    max_sets: int
    limit_bytes: int
    limit_extent: int

    def normal(self, shape: Sequence[int], dtype: str, scale: float = 1.0) -> Array:
        """Normally distributed random numbers."""

    def vector(self, values: Sequence[float]) -> Array:
        """Float32 values."""

    def assign(self, array: Array, values: Any) -> None:
        """Overwrites an array with another one, or with a sequence of numbers."""

    def clone(self, array: Array) -> Array:
        """A copy."""

    def cast(self, array: Array, dtype: str) -> Array:
        """A copy of another type."""

    def dense(self, x: Array, kernel: Array, bias: Array) -> Array:
        """relu(x @ kernel + bias)."""

    def distance(self, a: Array, b: Array) -> float:
        """The norm of a - b."""

    def scratch(self, size: int) -> Array | None:
        """Bytes at an address that is a multiple of 256; None for no bytes."""

    def stream(self) -> int:
        """The handle of the current stream."""

    def precision(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Inside, float32 products are of that precision."""

    def synchronize(self) -> None:
        """Waits for all work."""

    def seconds(self, work: Work) -> float:
        """How long the device takes for the work."""

    def capture(self, work: Work) -> Work:
        """Runs the work once or more; then what repeats it with the least effort of the host."""

    def peak_bytes(self, work: Work) -> int | None:
        """The most memory that the work takes beyond what is taken already; None: unknown."""

    def copier(self) -> Work:
        """Copies `limit_bytes`."""

    def multiplier(self, dtype: str) -> Work:
        """Multiplies two square matrices of `limit_extent`."""


def host_seconds(work: Work) -> float:
    """By the host's clock, for work that has ended when the call returns."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def open_device(emulated: bool) -> Device:
    """The GPU with torch; on the emulation host memory, of torch or of NumPy.

    Raises:
        RuntimeError: There is no library to hold arrays.
    """
    if importlib.util.find_spec("torch"):
        from benchmarks.gpu.torch_device import TorchDevice

        return TorchDevice("cpu" if emulated else "cuda")
    if not emulated:
        raise RuntimeError("the kernels' part needs torch to hold arrays. Received: no torch")
    from benchmarks.gpu.numpy_device import NumpyDevice

    return NumpyDevice()
