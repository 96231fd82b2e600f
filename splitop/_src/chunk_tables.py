"""The sparse gradient of an embedding table, collected chunk by chunk."""

from __future__ import annotations

import tensorflow as tf

from splitop._src.emit_tables import table_tensors
from splitop._src.errors import SplitError
from splitop._src.graph import reach
from splitop._src.graph.gradient_graph import GradientGraph
from splitop._src.graph.tables import match_table
from splitop._src.validate import Trainable

# What a chunk gives: a slice for each id; one for each row of the table that it has looked up; or
# the gradient of each bag of ids, which all have as many.
SLICES, DISTINCT, BAGS = "slices", "distinct", "bags"

_UNIQUE = frozenset({"Unique", "UniqueV2"})


def collected(
    item: Trainable, gradient: tf.IndexedSlices, gradients: GradientGraph
) -> tuple[str, list[tf.Tensor]]:
    """What to collect of a chunk's gradient.

    Args:
        item: The table.
        gradient: Its gradient.
        gradients: The chunk's gradient graph.

    Returns:
        SLICES, DISTINCT or BAGS; and the values, [n, ...], with the ids, [n], or [n, ids of a bag].

    Raises:
        SplitError: The slices of all chunks are not those of the whole batch.
    """
    row = item.variable.shape[1:]
    table = match_table(gradients, gradient, row)
    if table.even_bags:
        # There would be a copy for each id else, for all rows of the batch.
        values, ids, _ = table_tensors(table, row.num_elements(), lambda tensor: tensor)
        bags = tf.shape(values)[0]
        shape = [bags, tf.size(ids) // tf.maximum(bags, 1)]
        return BAGS, [tf.reshape(values, [-1, *row]), tf.reshape(ids, shape)]
    kind = DISTINCT if _are_distinct(item, gradient.indices) else SLICES
    return kind, [gradient.values, gradient.indices]


def put_together(item: Trainable, kind: str, values: tf.Tensor, ids: tf.Tensor) -> tf.IndexedSlices:
    """The gradient on the whole batch, from what was collected of all chunks."""
    row = item.variable.shape[1:]
    if kind == DISTINCT:
        ids, positions = tf.unique(ids)
        values = tf.math.unsorted_segment_sum(values, positions, tf.size(ids))
    elif kind == BAGS:
        # As TensorFlow writes the gradient of a sum, which the planner takes apart again.
        shape = tf.concat([tf.shape(ids), tf.constant(row.as_list(), tf.int32)], 0)
        values = tf.reshape(tf.broadcast_to(values[:, tf.newaxis], shape), [-1, *row])
        ids = tf.reshape(ids, [-1])
    return tf.IndexedSlices(values, ids, tf.constant(item.variable.shape.as_list()))


def _are_distinct(item: Trainable, ids: tf.Tensor) -> bool:
    """Whether TensorFlow adds up the slices of each row, as it does where ids are made unique.

    An optimizer that squares each slice by itself must get one for each row of the whole batch.
    """
    while ids.op.type in ("Identity", "Reshape"):
        ids = ids.op.inputs[0]
    if ids.op.type in _UNIQUE:
        return True
    for op in reach.ancestors([ids]):
        if op.type in _UNIQUE:
            raise SplitError(
                f'the rows of "{item.name}" that are looked up are made unique in each of several '
                "places, which micro-batches can't put together for the whole batch: look up in "
                f'one place, or without making ids unique. Received: {op.type} "{op.name}".'
            )
    return False
