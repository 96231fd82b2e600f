"""The squared norms of the gradients of a step, whatever computes them."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from splitop._src import library
from splitop._src.dense_sweep import squared_norms
from splitop._src.graph.devices import may_be_on_gpu, on_device_of
from splitop._src.validate import Call

_KERNEL_DTYPES = (tf.float32, tf.float64)


class SquaredNorms:
    """Collects the squared norms of the gradients of variables, by the variables' indices."""

    def __init__(self) -> None:
        self._indices: list[int] = []
        self._unclipped: set[int] = set()
        self._parts: list[tf.Tensor] = []

    def add(self, indices: Sequence[int], values: tf.Tensor) -> None:
        """Takes over what is known: [variables] of float64."""
        self._indices += indices
        self._parts.append(values)

    def add_unclipped(self, index: int) -> None:
        """Leaves the gradient of a variable out of the global norm."""
        self._unclipped.add(index)

    def add_gradients(self, pairs: Sequence[tuple[int, tf.Tensor]], call: Call) -> None:
        """Works out the norms of gradients in memory, of variables of one device and dtype."""
        indices, gradients = zip(*pairs, strict=True)
        variable = call.variables[indices[0]].variable
        with on_device_of(call.graph, variable):
            known = gradients[0].dtype in _KERNEL_DTYPES and not may_be_on_gpu(variable)
            if known and library.reason() is None:
                norms = squared_norms(gradients)
            else:
                wide = [tf.cast(gradient, tf.float64) for gradient in gradients]
                norms = tf.stack([tf.reduce_sum(tf.square(gradient)) for gradient in wide])
        self.add(indices, norms)

    @property
    def positions(self) -> dict[int, int]:
        """Where the norm of each variable is in `values`."""
        return {index: position for position, index in enumerate(self._indices)}

    @property
    def clipped(self) -> list[int]:
        """Where the norms are in `values` that make up the global norm."""
        return [at for at, index in enumerate(self._indices) if index not in self._unclipped]

    def values(self) -> tf.Tensor:
        """One for each variable, [variables] of float64."""
        return tf.concat(self._parts, 0)
