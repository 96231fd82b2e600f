"""Cutting the rows of a batch into chunks, inside a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src.errors import SplitError
from splitop._src.names import describe, tensor_name
from splitop._src.whole import check_whole

_ROWS = "every tensor of inputs must have the rows of the batch along axis 0"


class Chunking:
    """The chunks of a batch: rows [0, size), [size, 2 size), and so on; the last may be shorter.

    Attributes:
        inputs: The whole batch, a nested structure of tensors.
        size: Rows of a chunk.
        batch: Rows of the batch, an int32 scalar. It is there once the inputs are checked.
        count: Number of chunks, an int32 scalar.
        rows: Rows of every chunk if they are known while the graph is built and all the same.
    """

    def __init__(self, inputs: Any, size: int):
        """Adds the checks that have to wait for the rows to the graph.

        Args:
            inputs: A nested structure of tensors, ragged and sparse ones included.
            size: Rows of a chunk, at least 1.

        Raises:
            SplitError: `inputs` has no rows, or different numbers of them, or `size` is no size.
        """
        self.size = check_whole("size, the rows of a micro-batch,", size)
        leaves = [_as_tensor(leaf) for leaf in tf.nest.flatten(inputs)]
        if not leaves:
            raise SplitError(f"{_ROWS}. Received: inputs without any tensor.")
        self.inputs = tf.nest.pack_sequence_as(inputs, leaves)
        batch = _static_batch(leaves)
        self.batch = _checked_batch(leaves) if batch is None else tf.constant(batch)
        self.count = (self.batch + (self.size - 1)) // self.size
        self.rows = None
        if batch is not None and (batch <= self.size or batch % self.size == 0):
            self.rows = min(batch, self.size)

    def bounds(self, number: Any) -> tuple[Any, Any]:
        """The first row of a chunk, and the one after its last."""
        start = number * self.size
        return start, tf.minimum(start + self.size, self.batch)

    def take(self, number: Any) -> list[tf.Tensor]:
        """A chunk of the inputs, as the tensors that its parts are made of: see `pack`."""
        bounds = self.bounds(number)
        leaves = [self.rows_of(leaf, bounds) for leaf in tf.nest.flatten(self.inputs)]
        return list(tf.nest.flatten(leaves, expand_composites=True))

    def rows_of(self, leaf: Any, bounds: tuple[Any, Any]) -> Any:
        """Rows of a tensor that has as many as the batch."""
        start, stop = bounds
        if isinstance(leaf, tf.SparseTensor):
            others = tf.zeros_like(leaf.dense_shape[1:])
            first = tf.concat([[tf.cast(start, tf.int64)], others], 0)
            size = tf.concat([[tf.cast(stop - start, tf.int64)], leaf.dense_shape[1:]], 0)
            return tf.sparse.slice(leaf, first, size)
        part = leaf[start:stop]
        if isinstance(part, tf.Tensor) and leaf.shape.rank is not None:
            part.set_shape([self.rows, *leaf.shape[1:]])
        return part

    def specs(self) -> list[tf.TensorSpec]:
        """Of the tensors of `take`."""
        return list(tf.nest.flatten(self._structure(), expand_composites=True))

    def pack(self, tensors: Sequence[tf.Tensor]) -> Any:
        """A chunk in the structure of the inputs, from the tensors of `take`."""
        return tf.nest.pack_sequence_as(self._structure(), list(tensors), expand_composites=True)

    def num_rows(self, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        """The rows of a chunk, from the tensors of `take`."""
        return _rows(tf.nest.flatten(self.pack(tensors))[0])

    def _structure(self) -> Any:
        return tf.nest.map_structure(self._spec, self.inputs)

    def _spec(self, leaf: Any) -> Any:
        shape = leaf.shape
        if shape.rank is not None:
            shape = tf.TensorShape([self.rows, *shape[1:]])
        if isinstance(leaf, tf.RaggedTensor):
            return tf.RaggedTensorSpec(
                shape, leaf.dtype, leaf.ragged_rank, row_splits_dtype=leaf.row_splits.dtype
            )
        spec = tf.SparseTensorSpec if isinstance(leaf, tf.SparseTensor) else tf.TensorSpec
        return spec(shape, leaf.dtype)


def _as_tensor(leaf: Any) -> Any:
    """A part of the inputs as a tensor with rows."""
    if not isinstance(leaf, (tf.Tensor, tf.RaggedTensor, tf.SparseTensor)):
        try:
            leaf = tf.convert_to_tensor(leaf)
        except (TypeError, ValueError):
            raise SplitError(f"{_ROWS}. Received: {describe(leaf)}.") from None
    if leaf.shape.rank == 0:
        raise SplitError(
            f"{_ROWS}; what is the same for all rows, the second part can take from outside. "
            f"Received: {describe(leaf)}."
        )
    return leaf


def _static_batch(leaves: Sequence[Any]) -> int | None:
    """The rows of the batch if all tensors tell them while the graph is built."""
    known = [None if leaf.shape.rank is None else leaf.shape[0] for leaf in leaves]
    given = {rows for rows in known if rows is not None}
    if len(given) > 1:
        raise SplitError(f"{_ROWS}. Received: {', '.join(map(_label, leaves))}.")
    if 0 in given:
        raise SplitError(f"a batch needs at least one row. Received: {_label(leaves[0])}.")
    return None if None in known else given.pop()


def _checked_batch(leaves: Sequence[Any]) -> tf.Tensor:
    """The rows of the batch, once it is known that all tensors have as many, and one at least."""
    rows = tf.stack([_rows(leaf) for leaf in leaves])
    names = ", ".join(tensor_name(leaf) for leaf in leaves)
    message = f"splitop: SplitError: {_ROWS}, at least one: {names}. Received:"
    fits = tf.reduce_all(tf.equal(rows, rows[0])) & (rows[0] > 0)
    check = tf.raw_ops.Assert(condition=fits, data=[message, rows], summarize=len(leaves))
    with tf.control_dependencies([check]):
        return tf.identity(rows[0])


def _rows(leaf: Any) -> tf.Tensor:
    if isinstance(leaf, tf.RaggedTensor):
        return leaf.nrows(tf.int32)
    if isinstance(leaf, tf.SparseTensor):
        return tf.cast(leaf.dense_shape[0], tf.int32)
    return tf.shape(leaf)[0]


def _label(leaf: Any) -> str:
    return f'"{tensor_name(leaf)}" of shape {leaf.shape}'
