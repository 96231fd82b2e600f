"""Where arrays live: on a GPU with torch or CuPy, or, on the emulation, in NumPy's memory."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import ml_dtypes
import numpy as np

from tests.gpu.kernels import EMULATED, missing


@runtime_checkable
class Device(Protocol):
    """Moves bytes to a device and back. "Arrays" are those of the device's library."""

    name: str
    has_bfloat16: bool
    dlpack_device: tuple[int, int]

    def upload(self, data: np.ndarray) -> Any:
        """An array of the same bytes whose address is a multiple of 256."""

    def download(self, array: Any) -> np.ndarray:
        """The bytes of an array of bytes."""

    def cast(self, array: Any, dtype: np.dtype, shape: tuple[int, ...]) -> Any:
        """The memory of an array of bytes as an array of another type and shape."""

    def address(self, array: Any) -> int:
        """Where the array's memory is."""

    def stream(self) -> contextlib.AbstractContextManager[int]:
        """A stream that everything inside the `with` runs on; it is waited for at the end."""


class Torch:
    name = "torch"
    has_bfloat16 = True

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._dtypes = {
            np.dtype(np.uint8): torch.uint8,
            np.dtype(np.int32): torch.int32,
            np.dtype(np.int64): torch.int64,
            np.dtype(np.float32): torch.float32,
            np.dtype(np.float64): torch.float64,
            np.dtype(np.float16): torch.float16,
            np.dtype(ml_dtypes.bfloat16): torch.bfloat16,
        }
        self.dlpack_device = (2, torch.cuda.current_device())

    def upload(self, data: np.ndarray) -> Any:
        return self._torch.from_numpy(data.copy()).cuda()

    def download(self, array: Any) -> np.ndarray:
        return array.cpu().numpy()

    def cast(self, array: Any, dtype: np.dtype, shape: tuple[int, ...]) -> Any:
        return array.reshape(-1).view(self._dtypes[dtype]).reshape(shape)

    def address(self, array: Any) -> int:
        return array.data_ptr()

    @contextlib.contextmanager
    def stream(self) -> Iterator[int]:
        stream = self._torch.cuda.Stream()
        stream.wait_stream(self._torch.cuda.current_stream())
        with self._torch.cuda.stream(stream):
            yield stream.cuda_stream
        stream.synchronize()


class CuPy:
    name = "cupy"
    has_bfloat16 = False

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self.dlpack_device = (2, cupy.cuda.Device().id)

    def upload(self, data: np.ndarray) -> Any:
        return self._cupy.asarray(data)

    def download(self, array: Any) -> np.ndarray:
        return self._cupy.asnumpy(array)

    def cast(self, array: Any, dtype: np.dtype, shape: tuple[int, ...]) -> Any:
        return array.reshape(-1).view(dtype).reshape(shape)

    def address(self, array: Any) -> int:
        return array.data.ptr

    @contextlib.contextmanager
    def stream(self) -> Iterator[int]:
        with self._cupy.cuda.Stream(non_blocking=True) as stream:
            yield stream.ptr
        stream.synchronize()


class Emulation:
    name = "emulation"
    has_bfloat16 = True
    dlpack_device = (1, 0)

    def upload(self, data: np.ndarray) -> Any:
        room = np.empty(data.nbytes + 256, np.uint8)
        start = -room.ctypes.data % 256
        room[start : start + data.nbytes] = data
        return room[start : start + data.nbytes]

    def download(self, array: Any) -> np.ndarray:
        return array.copy()

    def cast(self, array: Any, dtype: np.dtype, shape: tuple[int, ...]) -> Any:
        return array.reshape(-1).view(dtype).reshape(shape)

    def address(self, array: Any) -> int:
        return array.ctypes.data

    @contextlib.contextmanager
    def stream(self) -> Iterator[int]:
        yield 0


def _names() -> list[str]:
    if EMULATED:
        return ["emulation"]
    found = [name for name in ("torch", "cupy") if importlib.util.find_spec(name)]
    return found if missing is None else []


NAMES = _names()


def make(name: str) -> Device:
    """The device of that name."""
    return {"torch": Torch, "cupy": CuPy, "emulation": Emulation}[name]()


def why_none() -> str:
    """The reason for having no device."""
    return missing or "neither torch nor CuPy is installed to hold arrays on the GPU"
