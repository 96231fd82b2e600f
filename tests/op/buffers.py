"""Where the memory of tensors and variables is, on any device."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import tensorflow as tf


def read(variable: tf.Variable) -> tf.Tensor:
    """The variable's own buffer: a tensor on another device would be a copy."""
    with tf.device(variable.device):
        return variable.read_value()


def address(tensor: tf.Tensor) -> int:
    """Where a tensor's buffer is."""
    capsule = tf.experimental.dlpack.to_dlpack(tensor)
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    # A DLManagedTensor begins with the pointer to the data.
    return ctypes.c_void_p.from_address(get_pointer(capsule, b"dltensor")).value


def addresses(variables: Mapping[str, Any]) -> dict[str, int]:
    """Where the variables' buffers are."""
    return {name: address(read(variable)) for name, variable in variables.items()}
