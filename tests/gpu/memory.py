"""Arrays on a device between guards: what a call must not write stays as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.gpu.devices import Device

GUARD_BYTES = 256
GUARD = 0xA5


class Memory:
    """The arrays of one call.

    Args:
        device: Where they are.
        offsets: By how many elements each array misses an address that is a multiple of 256
            bytes, in turn.
    """

    def __init__(self, device: Device, offsets: Sequence[int] = (0,)) -> None:
        self._device = device
        self._offsets = offsets
        self._puts = 0
        self._constant: list[tuple[Any, np.ndarray]] = []

    def put(self, values: np.ndarray, *, constant: bool = False) -> Any:
        """A copy of the values on the device; `constant`: it may not be written."""
        offset = self._offsets[self._puts % len(self._offsets)]
        self._puts += 1
        return self._put(values, offset, constant)

    def scratch(self, size: int, fill: int = 0xFF) -> Any:
        """Aligned bytes; as floating-point numbers they are NaN."""
        return self._put(np.full(size, fill, np.uint8), 0, constant=False)

    def get(self, array: Any, like: np.ndarray) -> np.ndarray:
        """The values of an array with the dtype and shape of `like`."""
        data = self._device.download(self._device.cast(array, np.dtype(np.uint8), (-1,)))
        return data.view(like.dtype).reshape(like.shape)

    def check(self) -> None:
        """Asserts that nothing was written outside the arrays, nor to the constant ones."""
        for on_device, before in self._constant:
            after = self._device.download(on_device)
            np.testing.assert_array_equal(after, before, "memory that belongs to no result")

    def _put(self, values: np.ndarray, offset: int, constant: bool) -> Any:
        begin = GUARD_BYTES + offset * values.itemsize
        end = begin + values.nbytes
        room = np.full(end + GUARD_BYTES, GUARD, np.uint8)
        room[begin:end] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        on_device = self._device.upload(room)
        for part in [slice(None)] if constant else [slice(0, begin), slice(end, None)]:
            self._constant.append((on_device[part], room[part]))
        return self._device.cast(on_device[begin:end], values.dtype, values.shape)
