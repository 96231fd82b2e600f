"""The typed wrapper of the compiled op `Splitop>TableLookup` (csrc/tf)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.ops import resource_handle


def table_lookup(table: Any, ids: tf.Tensor, *, table_name: str, name: str) -> tf.Tensor:
    """Adds the op that copies the rows of a table that ids point to.

    Args:
        table: A tf.Variable or a keras.Variable of float32 or float64, [rows, ...].
        ids: The rows, int32 or int64 of any shape. One out of range is an error.
        table_name: What the user calls the table; for messages.
        name: Name of the operation.

    Returns:
        Shape of `ids` + shape of a row.

    Raises:
        VariableListError: `table` is no resource variable.
    """
    return library.load().splitop_table_lookup(
        table=resource_handle(table, table_name),
        ids=ids,
        T=table.dtype,
        table_name=table_name,
        name=name,
    )
