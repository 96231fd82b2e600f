"""Which lookups of rows an op of its own makes, in the place of TensorFlow's gather."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable
from typing import Any

import tensorflow as tf

from splitop._src.graph import reach
from splitop._src.graph.copy import calls_functions
from splitop._src.graph.devices import may_be_on_gpu
from splitop._src.graph.gradient_graph import GradientGraph
from splitop._src.own_forward import Chain, is_idle, may_be_stale
from splitop._src.validate import Call


@dataclasses.dataclass(frozen=True, eq=False)
class Lookup:
    """Rows of a table that are looked up for one step only.

    Attributes:
        op: TensorFlow's gather.
        table: Index of the table.
    """

    op: Any
    table: int

    @property
    def rows(self) -> Any:
        """What it returns."""
        return self.op.outputs[0]

    @property
    def ids(self) -> Any:
        """The rows looked up, of any shape."""
        return self.op.inputs[1]

    @property
    def read(self) -> Any:
        """The operation that reads the table."""
        return self.op.inputs[0].op


@dataclasses.dataclass(frozen=True, eq=False)
class OwnLookups:
    """The lookups that a tensor is computed from.

    Attributes:
        lookups: At least one.
        between: The operations from them to the tensor, and those of the gradients on shapes of
            what these compute, inputs first.
    """

    lookups: tuple[Lookup, ...]
    between: tuple[Any, ...]


def own_lookups(
    chain: Chain,
    call: Call,
    fused: Container[int],
    gradients: GradientGraph,
    running: frozenset[Any],
    copied: Container[Any],
    alone: bool | None,
) -> OwnLookups | None:
    """The lookups that a chain's input is computed from, as far as nothing else needs TensorFlow's.

    Args:
        chain: A chain whose forward pass the op runs.
        call: The step.
        fused: Indices of the variables that fused ops update: those are where such ops run.
        gradients: The plain gradients.
        running: The operations that have to run: of the plain gradients, and before the fused ops.
        copied: Those of them that run as copies, on other inputs.
        alone: Whether the forward pass is run for this step only; None: the graph tells.
    """
    x = chain[-1].x
    before = reach.ancestors([x])
    tables = {
        reach.handle(call.graph, item.variable).ref(): index
        for index, item in enumerate(call.variables)
        if index in fused and _may_be_table(item.variable)
    }
    found = [lookup for op in before if (lookup := _match(op, tables)) is not None]
    if not found:
        return None
    shapes = _shapes_for(copied, running, gradients)
    lookups = [
        lookup
        for lookup in found
        if is_idle([lookup.op], call, gradients, running - shapes, alone)
        and not may_be_stale([lookup.read], chain, call)
    ]
    # Ids that are made of other rows come from a gather that is copied, as all after these rows is.
    after = _after(lookups)
    lookups = [lookup for lookup in lookups if lookup.op not in after]
    after = _after(lookups)
    between = [
        op for op in call.graph.get_operations() if op in after and (op in before or op in shapes)
    ]
    if not lookups or not all(_can_be_copied(op) for op in between):
        return None
    return OwnLookups(tuple(lookups), tuple(between))


def _may_be_table(variable: Any) -> bool:
    return (
        reach.is_resource(variable)
        and variable.dtype in (tf.float32, tf.float64)
        and not may_be_on_gpu(variable)
    )


def _after(lookups: Iterable[Lookup]) -> set[Any]:
    """The operations that use the rows."""
    return reach.descendants(lookup.rows for lookup in lookups)


def _match(op: Any, tables: dict[Any, int]) -> Lookup | None:
    """A gather of a table's rows, or None.

    Not a ResourceGather: writes of the table wait for it, so that a tf.function runs it anyway.
    """
    if op.type != "GatherV2" or not reach.is_plain(op):
        return None
    params, ids, axis = op.inputs
    read = params.op
    if read.type != "ReadVariableOp" or not reach.is_plain(read):
        return None
    if tf.get_static_value(axis) != 0 or op.get_attr("batch_dims") != 0:
        return None
    if read.inputs[0].ref() not in tables or ids.dtype not in (tf.int32, tf.int64):
        return None
    return Lookup(op, tables[read.inputs[0].ref()])


def _shapes_for(
    copied: Container[Any], running: frozenset[Any], gradients: GradientGraph
) -> frozenset[Any]:
    """The gradients' operations on shapes that serve none but operations that are copied."""
    shapes: set[Any] = set()
    for op in gradients.in_order(running):
        made_of_shapes = any(tensor.op in shapes for tensor in op.inputs)
        if op.type in ("Shape", "ShapeN") or (made_of_shapes and _takes_integers(op)):
            shapes.add(op)
    for op in reversed(gradients.in_order(shapes)):
        users = [user for tensor in op.outputs for user in tensor.consumers() if user in running]
        if any(user not in copied and user not in shapes for user in users):
            shapes.remove(op)
    return frozenset(shapes)


def _takes_integers(op: Any) -> bool:
    return all(tensor.dtype.is_integer for tensor in op.inputs)


def _can_be_copied(op: Any) -> bool:
    return reach.is_plain(op) and not op.op_def.is_stateful and not calls_functions(op)
