"""What is done to each row of a product right after it: a bias is added, and relu."""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from typing import Any

from splitop._src.graph import reach
from splitop._src.graph.devices import XLA_SCOPE, is_on_cpu
from splitop._src.graph.rewire import is_taken_by_functions

LINEAR, RELU = "linear", "relu"


@dataclasses.dataclass(frozen=True, eq=False)
class Epilogue:
    """The operations after a product that an op of splitop's does with it.

    Attributes:
        y: The result; the product's own if nothing is done.
        bias: An element for each column, of any shape; None: nothing is added.
        activation: "linear" or "relu".
        reshapes: The operations that give y its shape, in turn.
    """

    y: Any
    bias: Any | None = None
    activation: str = LINEAR
    reshapes: tuple[Any, ...] = ()


def match_epilogue(product: Any, running: Container[Any]) -> Epilogue:
    """What is done to a product, whose last dimension is that of its columns.

    Args:
        product: Its result.
        running: The operations that count: any other may take the product, too.
    """
    found, tensor, reshapes = Epilogue(product), product, ()
    while found.activation == LINEAR:
        users = [op for op in tensor.consumers() if op in running]
        if len(users) != 1 or not _is_one_way(users[0]):
            break
        (op,) = users
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


def _is_one_way(op: Any) -> bool:
    """Whether nothing but data goes through an operation on a CPU, to others of its graph."""
    return (
        reach.is_plain(op)
        and not op._control_outputs
        and is_on_cpu(op)
        and XLA_SCOPE not in op.node_def.attr
        and not is_taken_by_functions(op.outputs[0])
    )
