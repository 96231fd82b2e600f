"""`splitop.ray.Rows`: a party's data in memory, found by the keys of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from splitop._src.errors import AlignmentError
from splitop._src.names import describe
from splitop._src.parties.keys import as_keys, listed


class Rows:
    """Arrays with a row for each sample, which is found by its key.

    rows = splitop.ray.Rows(["ann", "bob", "cai"], np.zeros([3, 20], "float32"))
    rows(["cai", "ann"])  # of shape [2, 20]
    """

    def __init__(self, keys: Any, values: Any):
        """Copies nothing.

        Args:
            keys: The key of each row, an array or list of integers or of strings; no two alike.
            values: An array with a row for each key, or a nested structure of them.

        Raises:
            AlignmentError: A key is there twice, or an array has another number of rows.
        """
        keys = as_keys(keys)
        self._index = {key: row for row, key in enumerate(keys.tolist())}
        if len(self._index) < len(keys):
            unique, counts = np.unique(keys, return_counts=True)
            raise AlignmentError(
                f"each sample must have a key of its own. Received: {listed(unique[counts > 1])} "
                "more than once."
            )
        self._values = tf.nest.map_structure(np.asarray, values)
        for array in tf.nest.flatten(self._values):
            if array.shape[:1] != keys.shape:
                raise AlignmentError(
                    f"values must have a row for each of the {len(keys)} keys. "
                    f"Received: {describe(array)}."
                )

    def __call__(self, keys: Any) -> Any:
        """The rows of some samples, in the order of the keys, in the structure of the values.

        Raises:
            AlignmentError: There is no sample of such a key.
        """
        keys = as_keys(keys)
        rows = [self._index.get(key, -1) for key in keys.tolist()]
        missing = [key for key, row in zip(keys.tolist(), rows, strict=True) if row < 0]
        if missing:
            raise AlignmentError(
                f"the data must hold all samples of the batch. Received: {len(missing)} of "
                f"{len(keys)} keys that are not there: {listed(missing)}."
            )
        return tf.nest.map_structure(lambda array: array[rows], self._values)
