"""The keys of samples, by which the parties' data are aligned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from splitop._src.errors import AlignmentError, SplitError
from splitop._src.names import describe
from splitop._src.whole import check_whole

_FEW = 5


def as_keys(keys: Any) -> np.ndarray:
    """Keys as an array of int64 or of str.

    Raises:
        SplitError: They are something else, or too large.
    """
    array = np.asarray(keys)
    if array.ndim == 1 and array.size and array.dtype.kind in "iu":
        if array.max() > np.iinfo(np.int64).max:
            raise SplitError(
                "the keys of samples must be integers of 64 bits with a sign. "
                f"Received: {array.max()}."
            )
        return array.astype(np.int64)
    if array.ndim == 1 and array.size and array.dtype.kind == "U":
        return array
    raise SplitError(
        "the keys of samples must be a list of integers or of strings, one at least. "
        f"Received: {describe(keys)}."
    )


def digest(keys: np.ndarray) -> str:
    """What two parties compare to know that they work on the same samples in the same order."""
    return hashlib.sha256(ascii(keys.tolist()).encode()).hexdigest()


def listed(keys: Iterable[Any]) -> str:
    """The first few of them, for messages."""
    items = list(keys)
    return ", ".join(map(repr, map(_plain, items[:_FEW]))) + (", …" if len(items) > _FEW else "")


def _plain(key: Any) -> Any:
    return key.item() if isinstance(key, np.generic) else key


class Batches:
    """Batches of keys, shuffled anew in each epoch: the same ones whenever a step is repeated.

    batches = splitop.ray.Batches(range(1000), 32, seed=1)
    batches(0)  # keys of the first batch
    """

    def __init__(self, keys: Any, batch_size: int, *, seed: int | None = None):
        """Computes nothing yet.

        Args:
            keys: The keys of all samples.
            batch_size: Samples a batch. The last one of an epoch has what is left.
            seed: Of the shuffling; None: the samples come in the order of `keys`.

        Raises:
            SplitError: An argument is of another kind.
            AlignmentError: A key is there twice.
        """
        self._keys, self._seed = as_keys(keys), seed
        self._size = check_whole("batch_size", batch_size)
        if len(np.unique(self._keys)) < len(self._keys):
            raise AlignmentError(
                f"each sample must have a key of its own. Received: {len(self._keys)} keys, of "
                f"which {len(np.unique(self._keys))} are different."
            )

    @property
    def per_epoch(self) -> int:
        """How many batches an epoch has."""
        return -(-len(self._keys) // self._size)

    def __call__(self, number: int) -> np.ndarray:
        """The keys of a batch.

        Args:
            number: From 0, over all epochs.
        """
        epoch, batch = divmod(number, self.per_epoch)
        keys = self._keys
        if self._seed is not None:
            keys = keys[np.random.default_rng([self._seed, epoch]).permutation(len(keys))]
        return keys[batch * self._size : (batch + 1) * self._size]
