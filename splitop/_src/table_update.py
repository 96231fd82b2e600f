"""The typed wrapper of the compiled op `Splitop>TableUpdate` (csrc/tf)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.ops import (
    check_gradient_dtype,
    check_in_graph,
    check_not_empty,
    optional,
    resource_handle,
)


@dataclasses.dataclass(frozen=True)
class TableArgs:
    """An embedding table, and the gradient of what was looked up in it.

    Attributes:
        gradient: [ids, elements of a row]; with `gradient_rows` [bags, elements of a row]. Of the
            table's dtype, float32 or float64.
        ids: The rows that were looked up, [ids] of int32 or int64.
        gradient_rows: The bag of each id, a row of `gradient`: [ids] of int32 or int64, negative
            for an id that is in none; None: each id has a gradient of its own.
        combiner: How the rows of a bag were combined: "sum", "mean" or "sqrtn".
        all_rows: Whether the rule is applied to every row, with a gradient of 0 where no id points;
            else to the rows that were looked up.
        sums_squares: Whether the rule takes the sum of the squares of the terms of a row's gradient
            where it has its square, as the Keras optimizers do. Not for adadelta, adamax and
            rowwise_adagrad.
        table: A tf.Variable or a keras.Variable, [rows, ...].
        slots: Its slots, variables of its shape, or of a row-wise rule with one element for each
            row, in the rule's order.
        decayed: Whether weight decay applies to it.
        name: What the user calls it; for messages.
    """

    gradient: tf.Tensor
    ids: tf.Tensor
    gradient_rows: tf.Tensor | None
    combiner: str
    all_rows: bool
    sums_squares: bool
    table: Any
    slots: tuple[Any, ...]
    decayed: bool
    name: str


def table_update(
    tables: Sequence[TableArgs],
    *,
    rule: str,
    hyper: tf.Tensor,
    condition: tf.Tensor | None = None,
    name: str | None = None,
) -> tf.Operation:
    """Adds the op that updates embedding tables by the gradients of the rows looked up.

    The ids are checked when the op runs, and so are shapes that are not known before; then an
    error is a tf.errors.InvalidArgumentError, or a FailedPreconditionError for a variable without
    a value. Nothing is written before. On GPUs ids are not checked: one out of range is skipped.

    Args:
        tables: At least one; no variable may appear twice.
        rule: The update rule; `csrc/include/splitop/update_rule.h` has them all.
        hyper: The rule's hyperparameters in its order, a tensor of the tables' dtype.
        condition: A boolean scalar: whether the tables are updated; None: they are.
        name: Name of the operation.

    Raises:
        SplitError: Outside a graph, without a table, or for a gradient of another dtype.
        VariableListError: Something that is no resource variable.
        ValueError: TensorFlow's, for shapes or attributes that do not fit.
        LibraryError: The compiled library is not there.
    """
    check_in_graph("table_update")
    check_not_empty("table_update", tables, "table")
    for table in tables:
        check_gradient_dtype(table.gradient, hyper, table.name)
    return library.load().splitop_table_update(
        gradients=[table.gradient for table in tables],
        ids=[table.ids for table in tables],
        gradient_rows=[table.gradient_rows for table in tables if table.gradient_rows is not None],
        tables=[resource_handle(table.table, table.name) for table in tables],
        slots=[resource_handle(slot, "a slot") for table in tables for slot in table.slots],
        hyper=hyper,
        conditions=optional(condition),
        combiners=[table.combiner for table in tables],
        in_bags=[table.gradient_rows is not None for table in tables],
        all_rows=[table.all_rows for table in tables],
        sums_squares=[table.sums_squares for table in tables],
        rule=rule,
        decayed=[table.decayed for table in tables],
        table_names=[table.name for table in tables],
        name=name,
    )
