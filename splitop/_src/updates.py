"""Adding the ops that write the variables of a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import tensorflow as tf

from splitop._src.clipping import Clipping
from splitop._src.emit_tables import clipped_table
from splitop._src.graph.devices import Place, on_device_of, place_of
from splitop._src.graph.gradient_graph import as_rows, joined_rows, makes_rows
from splitop._src.graph.layers import DenseLayer
from splitop._src.graph.tables import TableGradient
from splitop._src.multi_tensor_update import UpdateArgs, multi_tensor_update
from splitop._src.ops import LayerArgs, dense_chain
from splitop._src.optimizers import Accumulation, OptimizerAdapter, UpdateRule
from splitop._src.table_update import TableArgs, table_update
from splitop._src.validate import Call, Trainable
from splitop._src.xla import Check, after, in_xla, passed

T = TypeVar("T")
Pair = tuple[int, T]  # the index of a variable, and what its gradient is made of


@dataclasses.dataclass(frozen=True, eq=False)
class SweptLayer:
    """A layer whose backward pass has run, and which is yet to be updated.

    Attributes:
        layer: The layer.
        gradient: dL/dz.
        arguments: Those of its update, which begins with dL/dz.
        squared_norms: Of the gradients of its variables, or upper bounds; None: not known.
    """

    layer: DenseLayer
    gradient: tf.Tensor
    arguments: LayerArgs
    squared_norms: tf.Tensor | None = None


class Updates:
    """The fused ops of one step, and what each of them is given."""

    def __init__(
        self,
        adapter: OptimizerAdapter | Accumulation,
        rule: UpdateRule,
        call: Call,
        clipping: Clipping,
        lazy: bool,
        now: Callable[[Any], Any],
    ):
        """Adds nothing to the graph yet.

        Args:
            adapter: The optimizer, or the accumulation of gradients that comes before it.
            rule: The update rule.
            call: The step.
            clipping: What is done to the gradients before.
            lazy: Whether the rule is applied to no row but those looked up.
            now: Gives the tensor that stands for one of the reference graph in this step.
        """
        self._adapter = adapter
        self._rule = rule
        self._call = call
        self._clipping = clipping
        self._lazy = lazy
        self._now = now
        self._hyper: dict[Any, Any] = {}
        self._checks: list[Check] = []

    def wait_for(self, checks: list[Check]) -> None:
        """Inside XLA, has further checks done before any variable is written."""
        self._checks = checks

    def work_out_hyper(self, indices: Iterable[int]) -> None:
        """Adds the hyperparameters of some variables before they are needed."""
        for index in indices:
            variable = self._item(index).variable
            with on_device_of(self._call.graph, variable):
                self._hyper_of(variable)

    def layer(
        self,
        layer: DenseLayer,
        *,
        wants_gradient: bool,
        given_x: bool = True,
        given_reference: bool = True,
    ) -> LayerArgs:
        """A layer's arguments for the ops.

        Args:
            layer: The layer.
            wants_gradient: Whether its dL/dx is computed.
            given_x: Whether the op is given its input.
            given_reference: Whether the op is given what its activation's gradient reads.
        """
        activation = layer.activation
        x = reference = kernel_copy = None
        if given_x:
            rank = self._item(layer.kernel).variable.shape.rank
            x = joined_rows([_x_rows(self._now(x), layer.inputs, rank) for x in layer.xs])
        if activation is not None and given_reference:
            reference = as_rows(self._now(activation.reference), layer.outputs)
        if wants_gradient and layer.kernel_copy is not None:
            kernel_copy = as_rows(self._now(layer.kernel_copy), layer.outputs)
        kernel = self._item(layer.kernel)
        bias = None if layer.bias is None else self._item(layer.bias)
        updated = self._adapter
        return LayerArgs(
            x=x,
            reference=reference,
            activation="linear" if activation is None else activation.kind,
            alpha=0.0 if activation is None else activation.alpha,
            kernel=updated.variable(kernel.given),
            bias=None if bias is None else updated.variable(bias.given),
            kernel_slots=updated.slots(kernel.given),
            bias_slots=() if bias is None else updated.slots(bias.given),
            kernel_decayed=updated.decayed(kernel.given),
            bias_decayed=False if bias is None else updated.decayed(bias.given),
            name=kernel.name,
            kernel_copy=kernel_copy,
        )

    def chain(
        self,
        seed: tf.Tensor,
        layers: Sequence[DenseLayer],
        arguments: Sequence[LayerArgs],
        before: Sequence[Any],
        input_gradient: bool,
        seed_name: str,
        forward: bool = False,
    ) -> tuple[tf.Operation, tf.Tensor | None]:
        """Adds the op that trains a chain after the ops `before`; see `dense_chain`."""
        kernel = arguments[0].kernel
        kernels = [layer.kernel for layer in layers]
        biases = [layer.bias for layer in layers if layer.bias is not None]
        hyper = self._hyper_of(kernel)
        clips = self._clipping.clips(kernels + biases, kernel.dtype)
        given = [seed, *(tensor for layer in arguments for tensor in layer.tensors)]
        hyper = self._ordered(hyper, before, given)
        with tf.control_dependencies(before):
            return dense_chain(
                seed,
                arguments,
                rule=self._rule.name,
                hyper=hyper,
                input_gradient=input_gradient,
                seed_name=seed_name,
                condition=self._clipping.condition,
                clips=clips,
                forward=forward,
                name="dense_chain",
            )

    def tensors(self, pairs: Sequence[Pair[Any]], before: Sequence[Any]) -> tf.Operation:
        """Adds the op for variables of one device and dtype whose gradients are in memory."""
        indices = [index for index, _ in pairs]
        variable = self._item(indices[0]).variable
        with on_device_of(self._call.graph, variable):
            hyper = self._hyper_of(variable)
            clips = self._clipping.clips(indices, variable.dtype)
            arguments = [self._update(index, gradient) for index, gradient in pairs]
            hyper = self._ordered(hyper, before, [each.gradient for each in arguments])
            with tf.control_dependencies(before):
                return multi_tensor_update(
                    arguments,
                    rule=self._rule.name,
                    hyper=hyper,
                    condition=self._clipping.condition,
                    clips=clips,
                    name="multi_tensor_update",
                )

    def tables(self, pairs: Sequence[Pair[TableGradient]], before: Sequence[Any]) -> tf.Operation:
        """Adds the op for tables of one device and dtype."""
        variable = self._item(pairs[0][0]).variable
        with on_device_of(self._call.graph, variable):
            hyper = self._hyper_of(variable)
            arguments = [self._table(index, table) for index, table in pairs]
            hyper = self._ordered(hyper, before, [each.gradient for each in arguments])
            with tf.control_dependencies(before):
                return table_update(
                    arguments,
                    rule=self._rule.name,
                    hyper=hyper,
                    condition=self._clipping.condition,
                    name="table_update",
                )

    def updates_all_rows(self, index: int) -> bool:
        """Whether the step updates the rows of a table that were not looked up, too."""
        return not self._lazy and self._adapter.updates_all_rows(self._item(index).given)

    def _item(self, index: int) -> Trainable:
        return self._call.variables[index]

    def _hyper_of(self, variable: Any) -> Any:
        """The hyperparameters in a variable's dtype, where it is."""
        key = (variable.dtype, place_of(variable))
        if key not in self._hyper:
            self._hyper[key] = passed(self._adapter.hyper(variable.dtype), self._checks)
        return self._hyper[key]

    def _ordered(self, hyper: Any, before: Sequence[Any], given: Sequence[Any]) -> Any:
        """The hyperparameters for an op that comes after the ops `before`."""
        return after(hyper, before, given) if in_xla(self._call.graph) else hyper

    def _update(self, index: int, gradient: Any) -> UpdateArgs:
        item = self._item(index)
        return UpdateArgs(
            gradient=self._now(gradient),
            variable=self._adapter.variable(item.given),
            slots=self._adapter.slots(item.given),
            decayed=self._adapter.decayed(item.given),
            name=item.name,
        )

    def _table(self, index: int, table: TableGradient) -> TableArgs:
        item = self._item(index)
        width = item.variable.shape[1:].num_elements()
        clipped = clipped_table(table, index, width, self._now, self._clipping)
        return TableArgs(
            gradient=clipped.gradient,
            ids=clipped.ids,
            gradient_rows=clipped.bags,
            combiner=clipped.combiner,
            all_rows=self.updates_all_rows(index),
            sums_squares=not (table.distinct or self._adapter.adds_up_slices()),
            table=self._adapter.variable(item.given),
            slots=self._adapter.slots(item.given),
            decayed=self._adapter.decayed(item.given),
            name=item.name,
        )


def by_place(call: Call, pairs: Sequence[Pair[T]]) -> list[list[Pair[T]]]:
    """Variables of a device and a dtype together."""
    groups: dict[tuple[tf.DType, Place], list[Pair[T]]] = {}
    for index, gradient in pairs:
        variable = call.variables[index].variable
        groups.setdefault((variable.dtype, place_of(variable)), []).append((index, gradient))
    return list(groups.values())


def _x_rows(x: Any, inputs: int, kernel_rank: int) -> Any:
    """A layer's input as a matrix [rows, inputs], or as wide as the step says: the op looks."""
    if makes_rows(x, inputs) or kernel_rank > 2:
        return as_rows(x, inputs)
    return x if x.shape.rank == 2 else tf.reshape(x, tf.stack([-1, tf.shape(x)[-1]]))
