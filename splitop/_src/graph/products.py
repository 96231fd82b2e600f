"""Products of two tensors, whichever operation computes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

BATCHED = frozenset({"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"})

# Names of dimensions, as the letters in an equation of tf.einsum; numbers are those of a batch.
Labels = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """A sum of products over the dimensions that the result lacks.

    Attributes:
        op: The operation that multiplies.
        factors: What it multiplies.
        labels: The names of each factor's dimensions, none of them twice.
        result: The names of the result's dimensions.
        sizes: The extents that are known, by name.
        waits: Whether it has control inputs.
    """

    op: Any
    factors: tuple[Any, Any]
    labels: tuple[Labels, Labels]
    result: Labels
    sizes: Mapping[str | int, int]
    waits: bool

    def size(self, labels: Labels) -> int | None:
        """How many elements some dimensions have together; None if that is not known."""
        found = [self.sizes.get(label) for label in labels]
        return None if None in found else tf.TensorShape(found).num_elements()


def read_product(tensor: Any) -> Product | None:
    """The product that made `tensor`, summed up or not; None if it is none that is known."""
    op = tensor.op
    if op.type == "Sum":
        return _read_sum(op)
    labels = _labels(op)
    if labels is None:
        return None
    first, second, result = labels
    repeats = any(len(set(names)) != len(names) for names in labels)
    if repeats or not set(result) <= {*first, *second}:
        return None
    factors = (op.inputs[0], op.inputs[1])
    sizes = _sizes([*factors, op.outputs[0]], labels)
    product = Product(op, factors, (first, second), result, sizes, bool(op.control_inputs))
    return None if _may_broadcast(product, result) else product


def _unbroadcast_axes(op: Any) -> frozenset[int] | None:
    """The axes of a Sum that takes back the broadcasting of a tensor that had none of them."""
    axes, start = op.inputs[1], 0
    if axes.op.type == "AddV2":
        value = tf.get_static_value(axes.op.inputs[0])
        if value is None or value.ndim != 0:
            return None
        axes, start = axes.op.inputs[1], int(value)
    if axes.op.type != "BroadcastGradientArgs":
        return None
    own = axes.op.inputs[axes.value_index].shape
    other = axes.op.inputs[1 - axes.value_index].shape
    if own.as_list() != [0] or other.rank != 1 or other[0] is None:
        return None
    return frozenset(range(start, start + other[0]))


def _read_sum(op: Any) -> Product | None:
    product = read_product(op.inputs[0]) if op.inputs[0].op.type in BATCHED else None
    if product is None:
        return None
    axes, static = _unbroadcast_axes(op), None
    if axes is None:
        # Somebody else's sum, so that nothing is known of the factors but what their shapes tell.
        static = tf.get_static_value(op.inputs[1])
        if static is None:
            return None
        axes = frozenset(int(axis) % len(product.result) for axis in static.ravel())
    result = tuple(name for axis, name in enumerate(product.result) if axis not in axes)
    if static is not None and _may_broadcast(product, result):
        return None
    waits = product.waits or bool(op.control_inputs)
    return dataclasses.replace(product, result=result, waits=waits)


def _may_broadcast(product: Product, result: Labels) -> bool:
    """Whether a dimension that is summed over may be 1 in one factor and not in the other."""
    first, second = (
        dict(zip(names, tensor.shape, strict=True)) if tensor.shape.rank is not None else {}
        for tensor, names in zip(product.factors, product.labels, strict=True)
    )
    summed = [name for name in first if isinstance(name, int) and name not in result]
    return any(first[name] is None or first[name] != second.get(name) for name in summed)


def _sizes(tensors: Sequence[Any], labels: Sequence[Labels]) -> dict[str | int, int]:
    known = {}
    for tensor, names in zip(tensors, labels, strict=True):
        if tensor.shape.rank is not None:
            pairs = zip(names, tensor.shape, strict=True)
            known.update({name: extent for name, extent in pairs if extent is not None})
    return known


def _labels(op: Any) -> tuple[Labels, Labels, Labels] | None:
    if op.type == "MatMul":
        return _matrix_labels(op.get_attr("transpose_a"), op.get_attr("transpose_b"))
    if op.type == "Einsum":
        return _einsum_labels(op)
    return _batched_labels(op) if op.type in BATCHED else None


def _matrix_labels(
    transposes_first: bool, transposes_second: bool
) -> tuple[Labels, Labels, Labels]:
    first: Labels = ("k", "m") if transposes_first else ("m", "k")
    second: Labels = ("n", "k") if transposes_second else ("k", "n")
    return first, second, ("m", "n")


def _batched_labels(op: Any) -> tuple[Labels, Labels, Labels] | None:
    ranks = [tensor.shape.rank for tensor in op.inputs]
    if None in ranks:
        return None
    first, second, result = _matrix_labels(op.get_attr("adj_x"), op.get_attr("adj_y"))
    batch = max(ranks) - 2
    of_first, of_second = (_batch_labels(rank - 2, batch) for rank in ranks)
    return of_first + first, of_second + second, _batch_labels(batch, batch) + result


def _einsum_labels(op: Any) -> tuple[Labels, Labels, Labels] | None:
    inputs, result = op.get_attr("equation").decode().split("->")
    subscripts = inputs.split(",")
    if len(subscripts) != 2 or None in [tensor.shape.rank for tensor in op.inputs]:
        return None
    dots = [
        tensor.shape.rank - len(names.replace("...", ""))
        for tensor, names in zip(op.inputs, subscripts, strict=True)
    ]
    batch = max(dots)
    first, second = (
        _expanded(names, own, batch) for names, own in zip(subscripts, dots, strict=True)
    )
    return first, second, _expanded(result, batch, batch)


def _expanded(subscripts: str, own: int, batch: int) -> Labels:
    before, dots, after = subscripts.partition("...")
    return (*before, *(_batch_labels(own, batch) if dots else ()), *after)


def _batch_labels(own: int, batch: int) -> Labels:
    """Dimensions are broadcast from the last one on."""
    return tuple(range(batch - own, batch))
