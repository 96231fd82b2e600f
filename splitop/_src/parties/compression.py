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
    sample that it has seen. A row with Inf or NaN becomes NaN. Where a message has one, the step
    may be left out (`skip_nonfinite`): what rounding took before is then added the next time.
    """

    def __init__(self, compression: str | None):
        self._compression = compression
        self._lost: list[dict[Any, np.ndarray]] = []

    def __call__(self, arrays: Sequence[np.ndarray], keys: np.ndarray) -> list[Sent]:
        """Compresses arrays of floats.

        Args:
            arrays: With a row for each key; always as many, of the same shapes but for the rows.
            keys: Of the samples.
        """
        if self._compression != INT8:
            return [self._half(array) for array in arrays]
        self._lost = self._lost or [{} for _ in arrays]
        names = keys.tolist()
        rounded = [_int8(*each, names) for each in zip(arrays, self._lost, strict=True)]
        if all(np.isfinite(rows).all() for _, rows in rounded):
            for lost, (_, rows) in zip(self._lost, rounded, strict=True):
                # Copies: a row that is a view would keep its whole batch.
                lost.update((key, row.copy()) for key, row in zip(names, rows, strict=True))
        return [sent for sent, _ in rounded]

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


def _int8(
    array: np.ndarray, lost: dict[Any, np.ndarray], names: Sequence[Any]
) -> tuple[Sent, np.ndarray]:
    """An array with a scale for each row, and what rounding has taken of it."""
    value = array.astype(_wide(array.dtype)).reshape(len(array), -1)
    value = value + np.stack([_row_of(lost, name, value[0]) for name in names])
    scale = np.abs(value).max(axis=1, initial=0) / value.dtype.type(_STEPS)
    scale[scale == 0] = 1
    scale[~np.isfinite(scale)] = np.nan
    column = scale[:, np.newaxis]
    levels = np.where(np.isfinite(column), np.rint(value / column), 0)
    levels = np.clip(levels, -_STEPS, _STEPS).astype(np.int8)
    per_row = scale.reshape(-1, *[1] * (array.ndim - 1))
    sent = Sent(levels.reshape(array.shape), per_row, array.dtype.name)
    return sent, value - levels * column


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
