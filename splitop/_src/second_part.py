"""The second part as a function of one chunk of the batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.chunking import Chunking
from splitop._src.errors import CutError, SplitError
from splitop._src.names import describe
from splitop._src.parts import check_no_mask
from splitop._src.validate import check_iv

_SHORT = (tf.float16, tf.bfloat16)


# How the penalties of chunks make up that of the batch.
SUM, MEAN = "sum", "mean"


def wide(dtype: tf.DType) -> tf.DType:
    """The dtype in which values of `dtype` are added up."""
    return tf.float32 if dtype in _SHORT else dtype


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
    """What the second part gives on a chunk.

    Attributes:
        iv: The intermediate vectors, in the user's structure.
        ivs: The same, flattened.
        penalties: The chunk's part of the batch's penalty, in the dtype in which it is added up; or
            nothing.
    """

    iv: Any
    ivs: tuple[tf.Tensor, ...]
    penalties: tuple[tf.Tensor, ...]


class SecondPart:
    """The user's function on the chunks of a batch."""

    def __init__(self, function: Callable[[Any], Any], chunking: Chunking, penalty: str | None):
        """Adds nothing to the graph.

        Args:
            function: From a chunk of the inputs to iv, or to (iv, penalty).
            chunking: The batch.
            penalty: "sum" or "mean" over the rows; None: it returns none.

        Raises:
            SplitError: `penalty` is something else.
        """
        if penalty not in (None, SUM, MEAN):
            raise SplitError(f'penalty must be "sum", "mean" or None. Received: {penalty!r}.')
        self._function = function
        self._chunking = chunking
        self._penalty = penalty

    def outputs(self, chunk: Sequence[tf.Tensor]) -> Outputs:
        """Computes a chunk in the current graph, from the tensors of `Chunking.take`.

        Raises:
            CutError: An intermediate vector can't be differentiated or has no rows.
            SplitError: There is no penalty, or one that is none.
        """
        result = self._function(self._chunking.pack(chunk))
        penalties: tuple[tf.Tensor, ...] = ()
        if self._penalty is not None:
            result, penalty = _check_pair(result)
            penalties = (self._part_of_batch(_check_penalty(penalty), chunk),)
        check_no_mask(result, "cut the model by SplitModel.cut")
        ivs = check_iv(result, tf.compat.v1.get_default_graph())
        for tensor in ivs:
            _check_rows(tensor, self._chunking.rows)
        return Outputs(result, ivs, penalties)

    def _part_of_batch(self, penalty: tf.Tensor, chunk: Sequence[tf.Tensor]) -> tf.Tensor:
        if self._penalty == SUM:
            return penalty
        rows, batch = self._chunking.num_rows(chunk), self._chunking.batch
        return penalty * (tf.cast(rows, penalty.dtype) / tf.cast(batch, penalty.dtype))

    def trace(self) -> tuple[Any, Any]:
        """Traces the forward pass of a chunk.

        Returns:
            A ConcreteFunction from the tensors of `Chunking.take` to the intermediate vectors and
            the penalty, if there is one; and the structure of the vectors.
        """
        structure: list[Any] = []

        def forward(*chunk: tf.Tensor) -> tuple[tf.Tensor, ...]:
            outputs = self.outputs(chunk)
            structure[:] = [tf.nest.map_structure(lambda tensor: tensor.dtype, outputs.iv)]
            rows = self._chunking.num_rows(chunk)
            ivs = [_with_rows(tensor, rows, self._chunking.rows) for tensor in outputs.ivs]
            return (*ivs, *outputs.penalties)

        traced = tf.function(forward, autograph=False)
        return traced.get_concrete_function(*self._chunking.specs()), structure[0]


def _check_pair(result: Any) -> tuple[Any, Any]:
    if isinstance(result, (tuple, list)) and len(result) == 2:
        return result[0], result[1]
    raise SplitError(
        f"with a penalty, second_part must return (iv, penalty). Received: {describe(result)}."
    )


def _check_penalty(penalty: Any) -> tf.Tensor:
    fits = isinstance(penalty, tf.Tensor) and penalty.dtype.is_floating
    if not fits or penalty.shape.rank != 0:
        raise SplitError(
            f"the penalty must be a float scalar tensor. Received: {describe(penalty)}."
        )
    return tf.cast(penalty, wide(penalty.dtype))


def _check_rows(iv: tf.Tensor, rows: int | None) -> None:
    """What the graph tells of an intermediate vector's rows; see `_with_rows` for the rest."""
    expected = "micro-batch" if rows is None else f"micro-batch, {rows},"
    if not iv.shape.rank or (rows is not None and iv.shape[0] not in (None, rows)):
        raise CutError(
            f'iv "{iv.name}" must have the rows of its {expected} along axis 0. '
            f"Received: {describe(iv)}."
        )


def _with_rows(iv: tf.Tensor, rows: tf.Tensor, static: int | None) -> tf.Tensor:
    """The vector, once it is known that it has as many rows as its chunk."""
    if static is not None and iv.shape[0] == static:
        return iv
    message = f"splitop: CutError: iv {iv.name} must have the rows of its micro-batch. Expected:"
    check = tf.raw_ops.Assert(
        condition=tf.equal(tf.shape(iv)[0], rows), data=[message, rows, "Received:", tf.shape(iv)]
    )
    with tf.control_dependencies([check]):
        return tf.identity(iv)
