"""Recognising what the sparse gradient of an embedding table is made from."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from splitop._src.graph.dense import through_identity
from splitop._src.graph.gradient_graph import GradientGraph

# Gradient op of a combined lookup -> how it has combined the rows of a bag.
_SEGMENT_GRADIENTS = {
    "SparseSegmentSumGrad": "sum",
    "SparseSegmentMeanGrad": "mean",
    "SparseSegmentSqrtNGrad": "sqrtn",
}
_REPEATS = frozenset({"BroadcastTo", "Tile"})


@dataclasses.dataclass(frozen=True, eq=False)
class TableGradient:
    """The gradient of the rows of a table, before TensorFlow makes a copy for each id.

    Attributes:
        gradient: [ids, ...], or [bags, ...] if the ids are in bags.
        ids: The rows looked up, of any shape.
        combiner: "sum", "mean" or "sqrtn" of the rows of a bag.
        bags: The bag of each id, a row of `gradient`; None: it has none, or is in an even one.
        even_bags: Whether all bags have the same number of ids, one bag after the other.
        distinct: Whether TensorFlow itself adds up the gradients of each row, so that the optimizer
            gets one slice for it.
        divisor: A scalar that `gradient` has yet to be divided by, or None.
    """

    gradient: Any
    ids: Any
    combiner: str = "sum"
    bags: Any | None = None
    even_bags: bool = False
    distinct: bool = False
    divisor: Any | None = None

    @property
    def in_bags(self) -> bool:
        """Whether several ids share a row of the gradient."""
        return self.bags is not None or self.even_bags

    @property
    def tensors(self) -> list[Any]:
        """What it is made from."""
        parts = (self.gradient, self.ids, self.bags, self.divisor)
        return [tensor for tensor in parts if tensor is not None]


def match_table(gradients: GradientGraph, slices: Any, row: tf.TensorShape) -> TableGradient:
    """Reads a table's gradient; what is not recognised has a gradient for each id.

    Args:
        gradients: The gradient graph.
        slices: The table's gradient in it, tf.IndexedSlices.
        row: Shape of a row of the table.
    """
    values, ids = _flattened(gradients, slices.values), slices.indices
    return (
        _match_segments(gradients, values, ids)
        or _match_ragged(gradients, values, ids)
        or _match_repeated(gradients, values, ids, row)
        or TableGradient(slices.values, ids)
    )


def _flattened(gradients: GradientGraph, values: Any) -> Any:
    """`values` before a Reshape made one dimension of those of the ids."""
    values = through_identity(values)
    if values.op in gradients and values.op.type == "Reshape" and not values.op.control_inputs:
        return through_identity(values.op.inputs[0])
    return values


def _match_segments(gradients: GradientGraph, values: Any, indices: Any) -> TableGradient | None:
    """tf.nn.embedding_lookup_sparse: it looks up each distinct id once."""
    op = values.op
    if op not in gradients or op.control_inputs or op.type not in _SEGMENT_GRADIENTS:
        return None
    gradient, positions, segments = op.inputs[:3]
    distinct = renamed(indices)
    unique = distinct.op
    if unique.type != "Unique":
        return None
    if distinct is not unique.outputs[0] or positions is not unique.outputs[1]:
        return None
    return TableGradient(
        gradient, unique.inputs[0], _SEGMENT_GRADIENTS[op.type], segments, distinct=True
    )


def renamed(tensor: Any) -> Any:
    """The tensor that this one is a reshape of: the same values in the same order."""
    while tensor.op.type in ("Identity", "Reshape") and not tensor.op.control_inputs:
        tensor = tensor.op.inputs[0]
    return tensor


def _match_ragged(gradients: GradientGraph, values: Any, indices: Any) -> TableGradient | None:
    """The sum of a ragged dimension: rows of a gradient, or zeros where there is no segment."""
    select = values.op
    if (
        select not in gradients
        or select.control_inputs
        or select.type not in ("Select", "SelectV2")
    ):
        return None
    gather, zeros = select.inputs[1].op, select.inputs[2].op
    if gather.type != "GatherV2" or gather.control_inputs or zeros.type != "ZerosLike":
        return None
    if tf.get_static_value(gather.inputs[2]) != 0 or gather.get_attr("batch_dims") != 0:
        return None
    clipped = gather.inputs[1].op
    if clipped.type != "Maximum" or clipped.inputs[1].op.type != "ZerosLike":
        return None
    segments = clipped.inputs[0]
    if not _tells_segments(select.inputs[0], segments):
        return None
    return TableGradient(gather.inputs[0], indices, bags=segments)


def _tells_segments(condition: Any, segments: Any) -> bool:
    """Whether a condition is `segments >= 0`, in the shape of the rows."""
    op = condition.op
    if op.type == "LogicalAnd" and op.inputs[1].op.type in ("Fill", "OnesLike"):
        if op.inputs[1].op.type == "Fill" and not tf.get_static_value(op.inputs[1].op.inputs[1]):
            return False
        op = renamed(op.inputs[0]).op
    return (
        op.type == "GreaterEqual"
        and op.inputs[0] is segments
        and tf.get_static_value(op.inputs[1]) == 0
    )


def _match_repeated(
    gradients: GradientGraph, values: Any, indices: Any, row: tf.TensorShape
) -> TableGradient | None:
    """The sum or mean over all dimensions of the ids but the first."""
    divisor = None
    op = values.op
    if op in gradients and op.type == "RealDiv" and not op.control_inputs:
        values, divisor = op.inputs
        if divisor.shape.rank != 0:
            return None
        op = values.op
    if op not in gradients or op.control_inputs or op.type not in _REPEATS:
        return None
    bags = op.inputs[0]
    if op.type == "Tile" and not _repeats_within_bags(op.inputs[1], row):
        return None
    if not (_has_one_row_a_bag(bags.shape, row) or _keeps_one_row_a_bag(op, row)):
        return None
    return TableGradient(bags, indices, even_bags=True, divisor=divisor)


def _repeats_within_bags(multiples: Any, row: tf.TensorShape) -> bool:
    """Whether a Tile surely repeats neither the bags as a whole nor within a row."""
    values = tf.get_static_value(multiples)
    if values is None:
        return False
    return values[0] == 1 and bool(np.all(values[len(values) - row.rank :] == 1))


def _has_one_row_a_bag(bags: tf.TensorShape, row: tf.TensorShape) -> bool:
    """Whether a shape is [b, 1, ..., 1, *row]: then rows are repeated for the ids of each bag."""
    if bags.rank is None or bags.rank < row.rank + 2:
        return False
    split = bags.rank - row.rank
    return all(extent == 1 for extent in bags[1:split]) and list(bags[split:]) == list(row)


def _keeps_one_row_a_bag(repeat: Any, row: tf.TensorShape) -> bool:
    """The same where sizes are open: the gradient of a sum is given ones where it has summed."""
    reshape, shape, rank = (
        repeat.inputs[0].op,
        repeat.outputs[0].shape,
        repeat.outputs[0].shape.rank,
    )
    if repeat.type != "BroadcastTo" or reshape.type != "Reshape" or rank is None:
        return False
    stitch = reshape.inputs[1].op
    if stitch.type != "DynamicStitch" or len(stitch.inputs) != 4:
        return False
    _, axes, extents, ones = stitch.inputs
    split = rank - row.rank
    return (
        extents is repeat.inputs[1]
        and split >= 2
        and list(shape[split:]) == list(row)
        and _is_range(axes, rank, range(1, split))
        and bool(np.all(tf.get_static_value(ones) == 1))
    )


def _is_range(axes: Any, rank: int, expected: range) -> bool:
    """Whether `axes` is (axes + rank) % rank, of constants, and that is `expected`."""
    if axes.op.type != "FloorMod" or axes.op.inputs[0].op.type != "AddV2":
        return False
    given, added = axes.op.inputs[0].op.inputs
    values = [tf.get_static_value(tensor) for tensor in (given, added, axes.op.inputs[1])]
    if any(value is None for value in values) or values[1:] != [rank, rank]:
        return False
    return sorted(int(axis) % rank for axis in np.ravel(values[0])) == list(expected)
