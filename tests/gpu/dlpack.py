"""Arrays that offer their memory by DLPack or __cuda_array_interface__, with anything in it."""

from __future__ import annotations

import ctypes
import dataclasses
from typing import Any

import numpy as np

READ_ONLY = 1

CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (
        ("tensor", _Tensor),
        ("context", ctypes.c_void_p),
        ("deleter", _Deleter),
    )


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", _Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_capsule_name = ctypes.pythonapi.PyCapsule_GetName
_capsule_name.restype = ctypes.c_char_p
_capsule_name.argtypes = (ctypes.py_object,)


@dataclasses.dataclass
class Exporter:
    """Memory that `__dlpack__` offers; every field may tell what is not true.

    Attributes:
        address: Where it is.
        shape: Its shape.
        dtype: Name of its type.
        device: DLPack's type and number of the device.
        strides: In elements; None: DLPack's null pointer.
        byte_offset: What DLPack adds to the address.
        lanes: Of a vector type.
        version: Of the capsule; None: the library is older than versions.
        flags: Of a capsule with a version.
        owner: Keeps the memory.
    """

    address: int
    shape: tuple[int, ...]
    dtype: str
    device: tuple[int, int]
    strides: tuple[int, ...] | None = None
    byte_offset: int = 0
    lanes: int = 1
    version: int | None = 1
    flags: int = 0
    owner: Any = None

    def __post_init__(self) -> None:
        self.streams: list[int | None] = []
        self.capsules: list[Any] = []
        self.deleted = 0
        self._alive: list[Any] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int | None = None, **since: Any) -> Any:
        if self.version is None and since:
            raise TypeError("unexpected keyword argument")
        self.streams.append(stream)
        deleter = _Deleter(self._delete)
        if self.version is None:
            name, managed = b"dltensor", _Managed(self._tensor(), None, deleter)
        else:
            name = b"dltensor_versioned"
            managed = _Versioned(self.version, 0, None, deleter, self.flags, self._tensor())
        self._alive.append((name, managed, deleter))
        self.capsules.append(_new_capsule(ctypes.addressof(managed), name, None))
        return self.capsules[-1]

    def capsule_names(self) -> set[str]:
        """What the capsules are called by now."""
        return {_capsule_name(capsule).decode() for capsule in self.capsules}

    def _delete(self, managed: int) -> None:
        self.deleted += 1

    def _tensor(self) -> _Tensor:
        kind = self.dtype.rstrip("0123456789")
        shape = (ctypes.c_int64 * len(self.shape))(*self.shape)
        strides = None
        if self.strides is not None:
            strides = (ctypes.c_int64 * len(self.strides))(*self.strides)
        self._alive.append((shape, strides))
        pointer = ctypes.POINTER(ctypes.c_int64)
        return _Tensor(
            self.address,
            *self.device,
            len(self.shape),
            CODES[kind],
            int(self.dtype[len(kind) :]),
            self.lanes,
            ctypes.cast(shape, pointer),
            ctypes.cast(strides, pointer) if strides is not None else None,
            self.byte_offset,
        )


class CudaArray:
    """Memory that `__cuda_array_interface__` offers."""

    def __init__(self, address: int, values: np.ndarray, owner: Any, **changes: Any) -> None:
        self._owner = owner
        self.__cuda_array_interface__ = {
            "data": (address, False),
            "shape": values.shape,
            "typestr": values.dtype.str,
            "version": 3,
            **changes,
        }
