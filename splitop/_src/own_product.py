"""Which products an op of splitop's makes, in the place of TensorFlow's."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.graph.devices import is_replaceable
from splitop._src.graph.epilogues import LINEAR, RELU
from splitop._src.graph.products import BATCHED, Labels, Product, read_product

_PRODUCTS = BATCHED | {"MatMul"}


@dataclasses.dataclass(frozen=True, eq=False)
class OwnProduct:
    """A product of matrices for each member of a batch, as attention has them, or of one matrix.

    Attributes:
        factors: Positions of the operation's inputs, in the op's order.
        equation: As of tf.einsum.
    """

    factors: tuple[int, int]
    equation: str


def own_product(op: Any) -> OwnProduct | None:
    """The product that an operation on a CPU makes, or None if the op does not make it."""
    if op.type not in _PRODUCTS or not is_replaceable(op):
        return None
    if op.type == "MatMul" and any(_adds_bias(user) for user in op.outputs[0].consumers()):
        return None  # TensorFlow adds the bias, and activates, while it has the result at hand.
    dtypes = {tensor.dtype for tensor in (*op.inputs, *op.outputs)}
    product = read_product(op.outputs[0])
    if dtypes not in ({tf.float32}, {tf.float64}) or product is None:
        return None
    for factors in ((0, 1), (1, 0)):
        equation = _equation(product, factors)
        if equation is not None:
            return OwnProduct(factors, equation)
    return None


def _adds_bias(op: Any) -> bool:
    kind = ("BiasAdd", "Add", "AddV2")
    return op.type in kind and any(tensor.shape.rank == 1 for tensor in op.inputs)


def _equation(product: Product, factors: tuple[int, int]) -> str | None:
    """The op's equation for the factors in this order; None if it makes no such product."""
    first, second = (product.labels[position] for position in factors)
    if not (_is_batch(product, first, second) or _is_layer(product, first, second)):
        return None
    labels = dict.fromkeys(first + second)
    if len(labels) > len(string.ascii_letters):
        return None
    letters = dict(zip(labels, string.ascii_letters, strict=False))
    a, b, c = (
        "".join(letters[label] for label in labels) for labels in (first, second, product.result)
    )
    return f"{a},{b}->{c}"


def _is_batch(product: Product, first: Labels, second: Labels) -> bool:
    """Whether it is a product of matrices for each member of a batch."""
    rows, cols, both = {*first} - {*second}, {*second} - {*first}, {*first} & {*second}
    batch = both & {*product.result}
    if any(len(kind) != 1 for kind in (rows, cols, both - batch)):
        return False
    # Of one large matrix TensorFlow's product is as fast, with a vector it is faster.
    if any(product.size(tuple(kind)) == 1 for kind in (rows, cols, batch)):
        return False
    if {*product.result} != rows | cols | batch or product.result[-1] not in cols:
        return False
    return not any(_may_differ(product, label) for label in batch)


def _is_layer(product: Product, first: Labels, second: Labels) -> bool:
    """Whether it is the product of rows by a matrix, as a dense layer's: neither is transposed."""
    rows, depth, cols = first[:-1], first[-1:], second[1:]
    if not rows or len(cols) != 1 or second[:1] != depth or product.result != rows + cols:
        return False
    return product.size(rows) != 1 and product.size(cols) != 1


def _may_differ(product: Product, label: str | int) -> bool:
    """Whether TensorFlow may broadcast a dimension of the batch: one that has no letter."""
    if isinstance(label, str):
        return False
    extents = [
        tensor.shape[labels.index(label)]
        for tensor, labels in zip(product.factors, product.labels, strict=True)
    ]
    return None in extents or extents[0] != extents[1]


def emit_product(
    product: OwnProduct,
    inputs: Sequence[Any],
    name: str,
    bias: Any | None = None,
    activation: str = LINEAR,
) -> tf.Tensor:
    """Adds the op `Splitop>Einsum` (csrc/tf/einsum_op.cpp).

    Args:
        product: What it makes.
        inputs: Those of TensorFlow's operation, as they are now.
        name: Name of the operation.
        bias: What is added to each row, [columns]; None: nothing.
        activation: "linear" or "relu".

    Returns:
        What TensorFlow's operation returns, with the bias, activated.
    """
    a, b = (inputs[position] for position in product.factors)
    return library.load().splitop_einsum(
        a=a,
        b=b,
        biases=[] if bias is None else [bias],
        equation=product.equation,
        activation=activation,
        name=name,
    )


@tf.RegisterGradient("Splitop>Einsum")
def _gradient(op: Any, gradient: Any) -> list[Any]:
    """Of a label that one factor lacks the result has it: each gradient is a product, too."""
    factors, result = op.get_attr("equation").decode().split("->")
    a, b = factors.split(",")
    first, second, *biases = op.inputs
    if op.get_attr("activation") == RELU.encode():
        gradient = tf.raw_ops.ReluGrad(gradients=gradient, features=op.outputs[0])
    return [
        tf.einsum(f"{result},{b}->{a}", gradient, second),
        tf.einsum(f"{a},{result}->{b}", first, gradient),
        *(tf.einsum(f"{result}->{result[-1]}", gradient) for _ in biases),
    ]
