"""What is done to each row of a product right after it: a bias is added, and relu."""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from typing import Any

from splitop._src.graph import reach
from splitop._src.graph.devices import is_replaceable
from splitop._src.graph.rewire import is_taken_by_functions

LINEAR, RELU = "linear", "relu"


@dataclasses.dataclass(frozen=True, eq=False)
class Epilogue:
    """The operations after a product that an op of splitop's does with it.

    Attributes:
        y: The result; the product's own if nothing is done.
        bias: An element for each column, of the shape of last dimensions; None: nothing is added.
        activation: "linear" or "relu".
        reshapes: The operations that give y its shape, in turn.
    """

    y: Any
    bias: Any | None = None
    activation: str = LINEAR
    reshapes: tuple[Any, ...] = ()


def match_epilogue(product: Any, running: Container[Any], results: Container[Any]) -> Epilogue:
    """What is done to a product, whose last dimension is that of its columns.

    Args:
        product: Its result.
        running: The operations that count: any other may take the product, too.
        results: References to what else is needed of the graph.
    """
    found, tensor = Epilogue(product), product
    reshapes: tuple[Any, ...] = ()  # Those after which nothing is done are not the op's business.
    while found.activation == LINEAR:
        op = _only_user(tensor, running, results)
        if op is None:
            break
        if op.type == "Reshape" and op.inputs[0] is tensor:
            reshapes = (*reshapes, op)
        elif op.type == "Relu":
            found = dataclasses.replace(found, y=op.outputs[0], activation=RELU, reshapes=reshapes)
        else:
            bias = None if found.bias is not None else _bias(op, tensor, product.shape[-1])
            if bias is None:
                break
            found = dataclasses.replace(found, y=op.outputs[0], bias=bias, reshapes=reshapes)
        tensor = op.outputs[0]
    return found


def _only_user(tensor: Any, running: Container[Any], results: Container[Any]) -> Any | None:
    """The operation that alone needs a tensor, if nothing but data goes in and out; or None."""
    users = [op for op in tensor.consumers() if op in running]
    if len(users) != 1 or tensor.ref() in results:
        return None
    (op,) = users
    is_plain = reach.is_plain(op) and not op._control_outputs and len(op.outputs) == 1
    is_free = is_plain and is_replaceable(op) and not is_taken_by_functions(op.outputs[0])
    return op if is_free else None


def _bias(op: Any, tensor: Any, columns: int | None) -> Any | None:
    """What an operation adds to each row of a tensor, whose last dimensions are the columns."""
    if op.type == "BiasAdd":
        if op.get_attr("data_format") != b"NHWC":
            return None
    elif op.type not in ("Add", "AddV2"):
        return None
    first, second = op.inputs
    bias = second if first is tensor else first
    rank = bias.shape.rank
    if not rank or not bias.shape.is_fully_defined() or tensor.shape.rank is None:
        return None
    is_whole = bias.shape.num_elements() == columns
    return bias if is_whole and tensor.shape[-rank:] == bias.shape else None
