"""What the replicas of a step send to each other, so that all of them make the same update.

The gradient of a step is the sum of those of all replicas. Of a dense layer that is
Σ xᵀG = [x₁; x₂; ...]ᵀ [G₁; G₂; ...], so that a replica needs either the product of each other one
or its rows. Keras clips the gradients of each replica by themselves, before they are added up.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.clipping import Clipping
from splitop._src.emit_tables import clipped_table
from splitop._src.graph.tables import TableGradient
from splitop._src.norms import SquaredNorms
from splitop._src.replicas import Replicas
from splitop._src.updates import Pair, SweptLayer, by_place
from splitop._src.validate import Call


@dataclasses.dataclass(frozen=True, eq=False)
class Combined:
    """The gradients of all replicas: the same bits on each of them.

    Attributes:
        swept: The layers, with the rows of all.
        updated: The variables whose gradients were added up; nothing is left to be clipped.
        tables: The tables, with the rows looked up by all.
        condition: Whether the step is done; None: it always is.
    """

    swept: list[SweptLayer]
    updated: list[Pair[tf.Tensor]]
    tables: list[Pair[TableGradient]]
    condition: tf.Tensor | None


class Exchange:
    """One exchange between the replicas of a step."""

    def __init__(
        self, replicas: Replicas, call: Call, clipping: Clipping, now: Callable[[Any], Any]
    ) -> None:
        """Adds nothing to the graph yet.

        Args:
            replicas: The replicas.
            call: The step.
            clipping: What is done to the gradients of a replica.
            now: Gives the tensor that stands for one of the reference graph in this step.
        """
        self._replicas = replicas
        self._call = call
        self._clipping = clipping
        self._now = now

    def run(
        self,
        swept: Sequence[SweptLayer],
        updated: Sequence[Pair[Any]],
        tables: Sequence[Pair[TableGradient]],
        before: Sequence[Any],
    ) -> Combined:
        """Combines what this replica has with that of the others.

        Args:
            swept: Its layers.
            updated: Its gradients that are to be added up.
            tables: Its tables.
            before: What has to run on every replica before any of them writes a variable.
        """
        with tf.control_dependencies(before):
            summed = [
                tf.identity(self._clipping.clip(self._now(gradient), index))
                for index, gradient in updated
            ]
            own_tables = [(index, self._clipped(index, table)) for index, table in tables]
            rows = [tf.identity(tensor) for tensor in self._rows(swept, own_tables)]
            if self._clipping.condition is not None:
                summed.append(self._bound(self._clipping.condition, swept, summed))
        sums = self._replicas.all_reduce(summed)
        gathered = iter(self._replicas.all_gather(rows))
        layers = [_with_rows(layer, next(gathered), next(gathered)) for layer in swept]
        condition = None
        if self._clipping.condition is not None:
            condition = tf.math.is_finite(sums.pop())
        pairs = [(index, total) for (index, _), total in zip(updated, sums, strict=True)]
        if condition is not None and pairs:
            condition &= self._are_finite(pairs)
        of_all = [(index, _gathered_table(table, gathered)) for index, table in own_tables]
        return Combined(layers, pairs, of_all, condition)

    def _clipped(self, index: int, table: TableGradient) -> TableGradient:
        width = self._call.variables[index].variable.shape[1:].num_elements()
        return clipped_table(table, index, width, self._now, self._clipping)

    def _rows(
        self, swept: Sequence[SweptLayer], tables: Sequence[Pair[TableGradient]]
    ) -> Iterator[tf.Tensor]:
        """What is gathered, in the order in which it is taken again."""
        for layer in swept:
            yield layer.arguments.x
            scale = self._clipping.scale(layer.layer.kernel, layer.gradient.dtype)
            yield layer.gradient if scale is None else layer.gradient * scale
        for _, table in tables:
            yield table.gradient
            yield table.ids
            if table.bags is not None:
                bags, ids = tf.shape(table.gradient, tf.int64)[0], tf.size(table.ids, tf.int64)
                yield tf.cast(table.bags, tf.int64)  # what the others' are moved by
                yield tf.stack([[bags, ids]])

    def _bound(
        self, condition: tf.Tensor, swept: Sequence[SweptLayer], summed: Sequence[tf.Tensor]
    ) -> tf.Tensor:
        """A bound of this replica's gradients of the layers; NaN if its condition does not hold.

        The sum over all replicas bounds the sums of these gradients, and it is finite only if the
        condition holds on all of them.
        """
        norms = [layer.squared_norms for layer in swept if layer.squared_norms is not None]
        largest = tf.sqrt(tf.reduce_max(tf.concat([[tf.constant(0.0, tf.float64)], *norms], 0)))
        dtypes = [tensor.dtype for tensor in (*(layer.gradient for layer in swept), *summed)]
        return tf.cast(tf.where(condition, largest, math.nan), [*dtypes, tf.float32][0])

    def _are_finite(self, pairs: Sequence[Pair[tf.Tensor]]) -> tf.Tensor:
        """Whether sums are finite; those of finite numbers may not be."""
        norms = SquaredNorms()
        for of_place in by_place(self._call, pairs):
            norms.add_gradients(of_place, self._call)
        return tf.reduce_all(tf.math.is_finite(norms.values()))


def _with_rows(layer: SweptLayer, x: tf.Tensor, gradient: tf.Tensor) -> SweptLayer:
    # A gradient that was kept would be this replica's own.
    arguments = dataclasses.replace(layer.arguments, x=x, kernel_gradient=None)
    return dataclasses.replace(layer, gradient=gradient, arguments=arguments)


def _gathered_table(table: TableGradient, gathered: Iterator[tf.Tensor]) -> TableGradient:
    gradient, ids, bags = next(gathered), next(gathered), None
    if table.bags is not None:
        own_bags, sizes = next(gathered), next(gathered)
        first_bags = tf.cumsum(sizes[:, 0], exclusive=True)
        # A negative one, of an id that is in no bag, stays so.
        bags = tf.where(own_bags < 0, own_bags, own_bags + tf.repeat(first_bags, sizes[:, 1]))
    return dataclasses.replace(table, gradient=gradient, ids=ids, bags=bags)
