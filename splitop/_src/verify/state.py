"""State of the user's that is put back, bit by bit, after it was trained on."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf


class State:
    """The values of eager variables, by their handles."""

    def __init__(self, handles: Iterable[Any]) -> None:
        """Copies the values.

        Args:
            handles: Handles of resources; those of other things than variables, and of variables
                without a value, are left out.
        """
        distinct = {id(handle): handle for handle in handles}
        self._values = [
            (handle, dtype, np.array(value.numpy(), copy=True))
            for handle in distinct.values()
            for dtype, value in _values(handle)
        ]

    def restore(self) -> None:
        """Puts the values back."""
        for handle, dtype, value in self._values:
            tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(value, dtype))


def _values(handle: Any) -> Iterator[tuple[Any, Any]]:
    data = handle._handle_data  # What a variable's handle says of its value.
    if data is None or not data.is_set or not data.shape_and_type:
        return
    if tf.raw_ops.VarIsInitializedOp(resource=handle):
        dtype = tf.as_dtype(data.shape_and_type[0].dtype)
        yield dtype, tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)


@contextlib.contextmanager
def python_state_kept(layers: Sequence[Any]) -> Iterator[None]:
    """Keeps what tracing leaves in Python: the losses of Keras layers, random generators."""
    losses = [(layer, list(layer._losses), set(layer._loss_ids)) for layer in layers]
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for layer, values, ids in losses:
            layer._losses[:] = values
            layer._loss_ids.clear()
            layer._loss_ids.update(ids)
