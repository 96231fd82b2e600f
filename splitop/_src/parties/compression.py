"""IV and dL/dIV in fewer bits, for the way between the parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from splitop._src.errors import SplitError
from splitop._src.names import describe

FLOAT16, BFLOAT16, INT8 = "float16", "bfloat16", "int8"
COMPRESSIONS = (None, FLOAT16, BFLOAT16, INT8)
_LARGEST_EXPONENT = 15  # A float16 is below 2 ** 16.
_STEPS = 127


@dataclasses.dataclass(frozen=True)
class Sent:
    """An array as it is sent.

    Attributes:
        array: The values, in the dtype in which they are sent.
        scale: What they are to be multiplied with: one number, or one for each row; None: 1.
        dtype: Of the array before.
    """

    array: np.ndarray
    scale: np.ndarray | None
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes that are sent."""
        return self.array.nbytes + (0 if self.scale is None else self.scale.nbytes)

    @property
    def nbytes_before(self) -> int:
        """Bytes of the array before."""
        return self.array.size * np.dtype(self.dtype).itemsize

    def received(self) -> np.ndarray:
        """The array, in the dtype that it had before."""
        if self.array.dtype.name == self.dtype and self.scale is None:
            return self.array
        wide = _wide(np.dtype(self.dtype))
        array = self.array.astype(wide)
        if self.scale is not None:
            array *= self.scale.astype(wide)
        return array.astype(self.dtype)


class Compressor:
    """Compresses what one part sends to another one.

    "float16" is scaled by a power of two, so that the largest value fits and small ones are kept.
    "int8" has a scale for each row, and error feedback: what rounding has taken from a sample is
    added when that sample is sent the next time. For this the compressor keeps a row for each
    sample that it has seen.
    """

    def __init__(self, compression: str | None):
        self._compression = compression
        self._lost: list[dict[Any, np.ndarray]] = []

    def __call__(self, arrays: Sequence[np.ndarray], keys: np.ndarray) -> list[Sent]:
        """Compresses arrays of floats.

        Args:
            arrays: With a row for each key; always as many, of the same shapes but for the rows.
            keys: Of the samples.

        Raises:
            SplitError: "int8" was asked for, and a value is NaN or Inf.
        """
        if self._compression == INT8:
            return [self._int8(n, array, keys) for n, array in enumerate(arrays)]
        return [self._half(array) for array in arrays]

    def _half(self, array: np.ndarray) -> Sent:
        name = array.dtype.name
        if self._compression is None or array.dtype.itemsize <= 2:
            return Sent(array, None, name)
        if self._compression == BFLOAT16:
            return Sent(array.astype(ml_dtypes.bfloat16), None, name)
        finite = np.abs(array[np.isfinite(array)])
        largest = finite.max(initial=0)
        # Below 2 ** exponent are all of them.
        exponent = 0 if largest == 0 else int(np.frexp(largest)[1])
        shift = min(_LARGEST_EXPONENT - exponent, 126)
        sent = np.ldexp(array, shift).astype(np.float16)
        return Sent(sent, np.ldexp(array.dtype.type(1), -shift), name)

    def _int8(self, number: int, array: np.ndarray, keys: np.ndarray) -> Sent:
        if not np.isfinite(array.astype(_wide(array.dtype))).all():
            raise SplitError(
                'with compression="int8", what is sent must be finite. Received: NaN or Inf in '
                f"an array of {array.dtype.name} and shape {array.shape}."
            )
        if number == len(self._lost):
            self._lost.append({})
        lost = self._lost[number]
        value = array.astype(_wide(array.dtype)).reshape(len(array), -1)
        names = keys.tolist()
        value = value + np.stack([_row_of(lost, key, value[0]) for key in names])
        scale = np.abs(value).max(axis=1, initial=0) / value.dtype.type(_STEPS)
        scale[scale == 0] = 1
        column = scale[:, np.newaxis]
        levels = np.clip(np.rint(value / column), -_STEPS, _STEPS).astype(np.int8)
        # Copies: a row that is a view would keep its whole batch.
        lost.update(
            (key, row.copy()) for key, row in zip(names, value - levels * column, strict=True)
        )
        per_row = scale.reshape(-1, *[1] * (array.ndim - 1))
        return Sent(levels.reshape(array.shape), per_row, array.dtype.name)


def _row_of(lost: dict[Any, np.ndarray], key: Any, like: np.ndarray) -> np.ndarray:
    """What a sample has lost; nothing if it had another size then."""
    row = lost.get(key)
    return np.zeros_like(like) if row is None or row.shape != like.shape else row


def check_compression(compression: Any) -> None:
    """Raises SplitError for an unknown one."""
    if compression not in COMPRESSIONS:
        raise SplitError(
            'compression must be None, "float16", "bfloat16" or "int8". '
            f"Received: {describe(compression)}."
        )


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which is computed."""
    return np.dtype(np.float32) if dtype.itemsize <= 2 else dtype
