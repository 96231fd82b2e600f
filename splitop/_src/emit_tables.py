"""The op's tensors for a table whose gradient was recognised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from splitop._src.clipping import Clipping
from splitop._src.graph.gradient_graph import as_rows
from splitop._src.graph.tables import TableGradient
from splitop._src.xla import Check

_INDEX_DTYPES = (tf.int32, tf.int64)


def table_tensors(
    table: TableGradient, width: int, now: Callable[[Any], Any]
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """The gradient [rows, width], the ids [ids], and the gradient's row for each id.

    Args:
        table: The gradient.
        width: Elements of a row.
        now: The tensor that stands for one of the reference graph in this step.
    """
    gradient = now(table.gradient)
    if table.divisor is not None:
        gradient = gradient / now(table.divisor)
    gradient = as_rows(gradient, width)
    ids = _indices(now(table.ids))
    if table.bags is not None:
        return gradient, ids, _indices(now(table.bags))
    if not table.even_bags:
        return gradient, ids, None
    num_ids = tf.size(ids, tf.int64)
    num_bags = tf.shape(gradient, tf.int64)[0]
    # An empty batch has no ids, and no size of a bag.
    return gradient, ids, tf.range(num_ids) // tf.maximum(num_ids // tf.maximum(num_bags, 1), 1)


def clipped_table(
    table: TableGradient, index: int, width: int, now: Callable[[Any], Any], clipping: Clipping
) -> TableGradient:
    """The gradient [rows, width] after it was clipped, with the ids and their bags.

    Args:
        table: The gradient in the reference graph.
        index: Of the table's variable.
        width: Elements of a row.
        now: The tensor that stands for one of the reference graph in this step.
        clipping: What is done to the gradients.
    """
    gradient, ids, gradient_rows = table_tensors(table, width, now)
    combiner = table.combiner
    if clipping.by_value and gradient_rows is not None:
        # What is clipped is the gradient of an id, not that of its bag.
        sizes = bag_factors(gradient_rows, tf.shape(gradient)[0], combiner, gradient.dtype)
        gradient, combiner = gradient * sizes[:, tf.newaxis], "sum"
    return TableGradient(
        clipping.clip(gradient, index), ids, combiner, gradient_rows, distinct=table.distinct
    )


def bag_factors(
    gradient_rows: tf.Tensor, num_bags: Any, combiner: str, dtype: tf.DType
) -> tf.Tensor:
    """What the gradient of a bag is multiplied by for each of its ids: [bags].

    Args:
        gradient_rows: The bag of each id, [ids]; negative for an id that is in none.
        num_bags: How many bags there are.
        combiner: How their rows were combined: "sum", "mean" or "sqrtn".
        dtype: That of the gradient.
    """
    if combiner == "sum":
        return tf.ones([num_bags], dtype)
    sizes = tf.maximum(_bag_sizes(gradient_rows, num_bags, dtype), 1)
    return 1 / (sizes if combiner == "mean" else tf.sqrt(sizes))


def ids_gradient(gradient: tf.Tensor, gradient_rows: tf.Tensor | None, combiner: str) -> tf.Tensor:
    """A tensor with the norm of the gradients of all ids, from those of their bags."""
    if gradient_rows is None:
        return gradient
    num_bags = tf.shape(gradient)[0]
    sizes = _bag_sizes(gradient_rows, num_bags, gradient.dtype)
    factors = bag_factors(gradient_rows, num_bags, combiner, gradient.dtype)
    # Nothing reads what an empty bag has.
    return tf.math.multiply_no_nan(gradient, (tf.sqrt(sizes) * factors)[:, tf.newaxis])


def check_ids(ids: Any, rows: int, name: str) -> Check:
    """A check that all ids are rows of the table.

    The op checks its ids too, but other variables of the step may be written by then, and the
    lookup itself need not be executed.

    Args:
        ids: The rows looked up.
        rows: Rows of the table.
        name: What the user calls it.
    """
    flat = _indices(ids)
    low, high = tf.reduce_min(flat), tf.reduce_max(flat)
    message = f"splitop: SplitError: the ids of {name} must be in [0, {rows}). Received: from"
    return Check((low >= 0) & (high < rows), (message, low, "to", high))


def _indices(tensor: Any) -> Any:
    """A tensor of integers as the op takes it."""
    flat = tf.reshape(tensor, [-1])
    return flat if flat.dtype in _INDEX_DTYPES else tf.cast(flat, tf.int64)


def _bag_sizes(gradient_rows: tf.Tensor, num_bags: Any, dtype: tf.DType) -> tf.Tensor:
    """How many ids each bag has, [bags]; TensorFlow drops negative segment numbers."""
    ones = tf.ones_like(gradient_rows, dtype)
    return tf.math.unsorted_segment_sum(ones, gradient_rows, num_bags)
