"""The shape of a tensor that has not been computed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

# Ops whose output has the shape of their first input.
_SAME_SHAPE = frozenset(
    {
        "BiasAdd", "Elu", "Identity", "LeakyRelu", "Relu", "Relu6", "Selu", "Sigmoid",
        "Softplus", "Tanh",
    }
)  # fmt: skip


def shape_of(tensor: Any) -> Any:
    """The shape of a tensor, taken from what it is computed from where that is enough.

    The last layer before the intermediate vector need not run only to tell its batch size, nor
    rows be looked up.
    """
    if tensor.shape.is_fully_defined():
        return tf.constant(tensor.shape.as_list(), tf.int32)
    op = tensor.op
    if op.type in _SAME_SHAPE:
        return shape_of(op.inputs[0])
    if op.type in ("Add", "AddV2") and _broadcasts_into(op.inputs[1].shape, op.inputs[0].shape):
        return shape_of(op.inputs[0])
    extents = [] if tensor.shape.rank is None else tensor.shape.as_list()
    if op.type == "Reshape" and extents.count(None) == 1 and 0 not in extents:
        rest = math.prod(extent for extent in extents if extent is not None)
        elements = tf.reduce_prod(tf.cast(shape_of(op.inputs[0]), tf.int64))
        open_one = tf.cast(elements // rest, tf.int32)
        return tf.stack([open_one if extent is None else extent for extent in extents])
    if op.type == "GatherV2" and tf.get_static_value(op.inputs[2]) == 0:
        row = op.inputs[0].shape[1:]
        if op.get_attr("batch_dims") == 0 and row.is_fully_defined():
            return tf.concat([shape_of(op.inputs[1]), tf.constant(row.as_list(), tf.int32)], 0)
    if extents and None not in extents[1:] and _keeps_first(op):
        return tf.stack([shape_of(op.inputs[0])[0], *extents[1:]])
    return tf.shape(tensor)


def _keeps_first(op: Any) -> bool:
    """Whether the first extent of an op's output is that of its first input."""
    if op.type == "MatMul":
        return not op.get_attr("transpose_a")
    axes_input = {"ConcatV2": -1, "Mean": 1, "Sum": 1}.get(op.type)
    if axes_input is None or not op.inputs[0].shape.rank:
        return False
    axes = tf.get_static_value(op.inputs[axes_input])
    return axes is not None and bool(np.all(axes % op.inputs[0].shape.rank != 0))


def _broadcasts_into(small: tf.TensorShape, large: tf.TensorShape) -> bool:
    """Whether adding the two surely keeps the shape of the larger one."""
    if small.rank is None or not large.rank or small.rank >= large.rank:
        return False
    trailing = large[large.rank - small.rank :]
    return all(
        extent is not None and extent in (1, other)
        for extent, other in zip(small, trailing, strict=True)
    )
