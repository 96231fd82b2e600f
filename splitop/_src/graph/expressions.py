"""Recognising a tensor as an expression of others, operation by operation."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

_COMMUTATIVE = frozenset({"Mul", "AddV2", "AddN"})


@dataclasses.dataclass(frozen=True)
class Input:
    """Any tensor: the same one wherever the name stands."""

    name: str


@dataclasses.dataclass(frozen=True)
class Op:
    """The output of an operation; factors and summands in either order.

    Attributes:
        type: The operation's type.
        operands: Its inputs: expressions, or the values of scalars.
    """

    type: str
    operands: tuple[Expression, ...]


@dataclasses.dataclass(frozen=True)
class Unbroadcast:
    """What TensorFlow makes of the gradient of a factor that may have been broadcast.

    Attributes:
        gradient: The gradient, of the product's shape.
        factors: Both factors. Sizes that are open may hide that neither was broadcast.
    """

    gradient: Op
    factors: tuple[Expression, Expression]


Expression = Input | Op | Unbroadcast | float


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """How a tensor is an expression.

    Attributes:
        inputs: The tensors that the names stand for.
        tensors: The tensors in between, and the one itself: each has the shape of all.
        ops: The operations that make these and the scalars.
    """

    inputs: dict[str, Any]
    tensors: tuple[Any, ...] = ()
    ops: frozenset[Any] = frozenset()


def output_of(kind: str, *operands: Expression) -> Op:
    """Short for an Op."""
    return Op(kind, operands)


def find(expression: Op, tensor: Any) -> Found | None:
    """How `tensor` is `expression`; None if it is not, or if anything may be broadcast in it."""
    for found in matches(expression, tensor):
        if all(same_shape(other, tensor) for other in (*found.tensors, *found.inputs.values())):
            return found
    return None


def matches(expression: Op, tensor: Any) -> Iterator[Found]:
    """Every way in which `tensor` is `expression`, whatever is broadcast in it."""
    return _matches(expression, tensor, Found({}))


def same_shape(a: Any, b: Any) -> bool:
    """Whether two shapes are the same as far as they are known; the ranks have to be."""
    return (
        a.shape.rank is not None and a.shape.rank == b.shape.rank and list(a.shape) == list(b.shape)
    )


def _matches(expression: Expression, tensor: Any, found: Found) -> Iterator[Found]:
    """Every way in which `tensor` may be `expression`, given what is found already."""
    if isinstance(expression, Input):
        if found.inputs.get(expression.name, tensor) is tensor:
            yield dataclasses.replace(found, inputs={**found.inputs, expression.name: tensor})
    elif isinstance(expression, Op):
        yield from _match_op(expression, tensor, found)
    elif isinstance(expression, Unbroadcast):
        yield from _match_unbroadcast(expression, tensor, found)
    elif _is_scalar(tensor, expression):
        yield dataclasses.replace(found, ops=found.ops.union(_made_by(tensor)))


def _match_op(expression: Op, tensor: Any, found: Found) -> Iterator[Found]:
    made_by = tensor.op
    operands = list(made_by.inputs)
    if made_by.type != expression.type or len(operands) != len(expression.operands):
        return
    found = _with(found, tensor, made_by)
    yield from _match_all(expression.operands, operands, found)
    if expression.type in _COMMUTATIVE:
        yield from _match_all(expression.operands, operands[::-1], found)


def _match_all(
    expressions: Sequence[Expression], tensors: Sequence[Any], found: Found
) -> Iterator[Found]:
    if not expressions:
        yield found
        return
    for first in _matches(expressions[0], tensors[0], found):
        yield from _match_all(expressions[1:], tensors[1:], first)


def _match_unbroadcast(expression: Unbroadcast, tensor: Any, found: Found) -> Iterator[Found]:
    yield from _match_op(expression.gradient, tensor, found)
    reshape = tensor.op
    if reshape.type != "Reshape" or reshape.inputs[0].op.type != "Sum":
        return
    total = reshape.inputs[0].op
    axes = total.inputs[1].op
    if axes.type != "BroadcastGradientArgs" or any(of.op.type != "Shape" for of in axes.inputs):
        return
    factors = [shape.op.inputs[0] for shape in axes.inputs]
    found = _with(found, tensor, reshape, total)
    for way in (factors, factors[::-1]):
        for gradient in _match_op(expression.gradient, total.inputs[0], found):
            yield from _match_all(expression.factors, way, gradient)


def _with(found: Found, tensor: Any, *ops: Any) -> Found:
    return dataclasses.replace(found, tensors=(*found.tensors, tensor), ops=found.ops.union(ops))


def _is_scalar(tensor: Any, value: float) -> bool:
    """Whether a tensor is a constant of no dimensions: `value`, rounded to its dtype."""
    if not any(op.type == "Const" for op in _made_by(tensor)):
        return False
    with warnings.catch_warnings():
        # TensorFlow reads constants of 16 bits in a way that NumPy 2.5 deprecates.
        warnings.filterwarnings("ignore", "Setting the dtype", DeprecationWarning)
        constant = tf.get_static_value(tensor)
    if np.ndim(constant) != 0:
        return False
    return bool(constant == np.asarray(value).astype(tensor.dtype.as_numpy_dtype))


def _made_by(scalar: Any) -> list[Any]:
    """A constant's operation, and the one that gives it its dtype."""
    return [scalar.op, scalar.op.inputs[0].op] if scalar.op.type == "Cast" else [scalar.op]
