"""Adding a planned step to the graph.

The reference graph stays as it is. What lies below a chain, and is still needed, is computed
from the fused op's output by a copy of the reference's operations; TensorFlow prunes the
originals that nothing uses any more. Changing their inputs instead would not reach a session
that has already run the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.emit_tables import check_ids, table_tensors
from splitop._src.errors import SplitError
from splitop._src.graph import reach
from splitop._src.graph.copy import copy_op
from splitop._src.graph.devices import Place, on_device_of, place_of
from splitop._src.graph.gradient_graph import GradientGraph, as_rows, components, joined_rows
from splitop._src.graph.layers import DenseLayer
from splitop._src.graph.tables import TableGradient
from splitop._src.multi_tensor_update import UpdateArgs, multi_tensor_update
from splitop._src.ops import LayerArgs, dense_chain
from splitop._src.optimizers import OptimizerAdapter, UpdateRule
from splitop._src.reference import Reference
from splitop._src.table_update import TableArgs, table_update
from splitop._src.validate import Call, Trainable, current_graph
from splitop._src.write_order import WriteOrder

Chain = tuple[DenseLayer, ...]
Pair = tuple[Trainable, Any]  # a variable and its gradient


class Emission:
    """One step: the fused chains and updates, and the rest of the reference graph around them."""

    def __init__(
        self,
        adapter: OptimizerAdapter,
        rule: UpdateRule | None,
        call: Call,
        reference: Reference,
        gradients: GradientGraph,
        chains: Sequence[Chain],
        updated: Container[int],
        tables: Mapping[int, TableGradient],
        lazy: bool,
    ):
        """Works out what has to run; adds nothing to the graph yet.

        Args:
            adapter: The optimizer.
            rule: Its update rule; None if nothing is fused.
            call: The step.
            reference: Its plain gradients.
            gradients: The graph of these.
            chains: What the fused op trains.
            updated: Indices of the variables that are updated by the gradients of `reference`,
                in one op.
            tables: Indices of the tables that are updated by the gradients of their rows.
            lazy: Whether the rule is applied to no row but those looked up.
        """
        self.call = call
        self._adapter = adapter
        self._rule = rule
        self._reference = reference
        self._gradients = gradients
        self._chains = tuple(chains)
        fused = {index for chain in chains for layer in chain for index in layer.variables}
        self._tables = [(call.variables[index], table) for index, table in tables.items()]
        self._lazy = lazy
        self._declined: list[Pair] = []
        self._updated: list[Pair] = []
        pairs = zip(call.variables, reference.gradients, strict=True)
        for index, pair in enumerate(pairs):
            if index not in fused and index not in tables:
                (self._updated if index in updated else self._declined).append(pair)
        self._planned = len(call.graph.get_operations())
        self._needed = self._find_needed()
        self._replaced: dict[Any, Chain] = {}
        for chain in chains:
            bottom = chain[-1].input_gradient
            if bottom is not None and self.emits_input_gradient(chain):
                self._replaced[bottom.ref()] = chain
        self._below = self._find_below()
        self._seeded_by_op = self._find_chain_that_checks_the_seed()
        self._order = WriteOrder(call, reference, gradients, self._needed)
        self._tensors: dict[Any, Any] = {}
        self._operations: dict[Any, Any] = {}
        self._hyper: dict[Any, Any] = {}

    def emits_input_gradient(self, chain: Chain) -> bool:
        """Whether something outside the chain needs the gradient of its input."""
        tensor = chain[-1].input_gradient
        if tensor is None:
            return False
        tops = {top.ref() for other in self._chains for top in other[0].tops}
        gradients = {part.ref() for given in self._plain_gradients() for part in components(given)}
        return tensor.ref() in tops | gradients or any(
            op in self._needed for op in tensor.consumers()
        )

    def updates_all_rows(self, item: Trainable) -> bool:
        """Whether the step updates the rows of a table that were not looked up, too."""
        return not self._lazy and self._adapter.updates_all_rows(item.given)

    def run(self, global_step: Any | None) -> tf.Operation:
        """Adds the step to the current graph; returns the operation that runs it."""
        if current_graph("Plan.apply") is not self.call.graph:
            raise SplitError(
                "Plan.apply must be called in the graph that the plan was made in; for a step "
                "inside tf.cond, tf.while_loop or a nested tf.function, plan in there too. "
                "Received: another graph."
            )
        self._check_not_written()
        self._adapter.prepare([item.given for item in self.call.variables])
        with tf.name_scope("splitop/fused"):
            id_checks = self._check_ids()
            self._order.add_guards(id_checks)
            fused = [*self._emit_chains(), *self._emit_updates(), *self._emit_tables()]
        pairs = [
            (self._after_reads(gradient, item), item.given) for item, gradient in self._declined
        ]
        checks = () if self._seeded_by_op is not None else self._reference.checked.checks
        with tf.control_dependencies([*checks, *id_checks]):
            return self._adapter.finish(fused, pairs, global_step)

    def _check_not_written(self) -> None:
        """The op multiplies by the kernels as they are then, so they must be those planned for."""
        if not self.call.graph.building_function:
            return
        added = set(self.call.graph.get_operations()[self._planned :])
        emitted = self._replaced.values()
        for chain in self._chains:
            for layer in chain if chain in emitted else chain[:-1]:
                if layer.kernel_copy is not None:
                    continue  # That is what the forward pass has used.
                kernel = self._variable(layer.kernel)
                for op in reach.writers(reach.handle(self.call.graph, kernel.variable)):
                    if op in added:
                        raise SplitError(_written(kernel.name, op))

    def _find_needed(self) -> frozenset[Any]:
        """The gradient ops that still have to run, as they are or as copies."""
        wanted = self._plain_gradients()
        for chain in self._chains:
            wanted += chain[0].tops
            wanted += [tensor for layer in chain for tensor in layer.forward_tensors]
        bottoms = [chain[-1].input_gradient for chain in self._chains]
        return self._gradients.closure(wanted, [bottom for bottom in bottoms if bottom is not None])

    def _find_below(self) -> frozenset[Any]:
        """The needed ops that a chain's output reaches: these are copied."""
        below: set[Any] = set()
        for op in self._gradients.in_order(self._needed):
            fed = any(tensor.ref() in self._replaced or tensor.op in below for tensor in op.inputs)
            if fed or any(before in below for before in op.control_inputs):
                below.add(op)
        return frozenset(below)

    def _find_chain_that_checks_the_seed(self) -> Chain | None:
        """The chain whose own checks are enough, as all else comes after it."""
        checked = self._reference.checked
        if len(checked.seeds) != 1 or checked.finite or not checked.seeds[0].implied_by_batch:
            return None
        tensor = checked.seeds[0].checked
        if not set(tensor.op.control_inputs).issubset(checked.checks):
            return None  # plan() was called under tf.control_dependencies.
        for chain in self._chains:
            if chain[0].top is tensor:
                users = self._gradients.consumers(tensor)
                # The rows follow from the batch alone if the rest makes up whole rows.
                whole = tensor.shape[1:].num_elements() % chain[0].outputs == 0
                return chain if whole and chain[0].entry.issuperset(users) else None
        return None

    def _plain_gradients(self) -> list[Any]:
        """What the reference graph has to compute besides what the chains take."""
        gradients = [gradient for _, gradient in [*self._declined, *self._updated]]
        return gradients + [tensor for _, table in self._tables for tensor in table.tensors]

    def _emit_chains(self) -> list[Any]:
        """Emits chains and copies in an order that has all inputs ready."""
        fused = []
        pending = list(self._chains)
        bottoms = {ref.deref().op: chain for ref, chain in self._replaced.items()}
        for op in self._gradients.in_order(self._needed | bottoms.keys()):
            if op in bottoms:
                fused.append(self._emit_chain(bottoms[op]))
                pending.remove(bottoms[op])
            elif op in self._below:
                self._copy(op)
        return fused + [self._emit_chain(chain) for chain in pending]

    def _emit_chain(self, chain: Chain) -> tf.Operation:
        top, bottom = chain[0], chain[-1].input_gradient
        kernel = self._variable(top.kernel).variable
        seeds = [self._now(tensor) for tensor in top.tops]
        if chain is self._seeded_by_op:
            seeds = [self._reference.checked.seeds[0].raw]
        wants_gradient = bottom is not None and bottom.ref() in self._replaced
        assert self._rule is not None
        with on_device_of(self.call.graph, kernel):
            rows = joined_rows(seeds, top.outputs)
            layers = [
                self._layer_args(layer, layer is not chain[-1] or wants_gradient) for layer in chain
            ]
            hyper = self._hyper_of(kernel)
            with tf.control_dependencies(self._before_update(chain)):
                operation, input_gradient = dense_chain(
                    rows,
                    layers,
                    rule=self._rule.name,
                    hyper=hyper,
                    input_gradient=wants_gradient,
                    seed_name=self._seed_name(top),
                    name="dense_chain",
                )
            if bottom is not None and input_gradient is not None:
                if not chain[-1].input_gradient_is_matrix:
                    input_gradient = tf.reshape(input_gradient, tf.shape(chain[-1].x))
                self._tensors[bottom.ref()] = input_gradient
        return operation

    def _layer_args(self, layer: DenseLayer, wants_gradient: bool) -> LayerArgs:
        kernel = self._variable(layer.kernel)
        bias = None if layer.bias is None else self._variable(layer.bias)
        activation = layer.activation
        reference = kernel_copy = None
        if activation is not None:
            reference = as_rows(self._now(activation.reference), layer.outputs)
        if wants_gradient and layer.kernel_copy is not None:
            kernel_copy = as_rows(self._now(layer.kernel_copy), layer.outputs)
        return LayerArgs(
            x=joined_rows([self._now(x) for x in layer.xs], layer.inputs),
            reference=reference,
            activation="linear" if activation is None else activation.kind,
            alpha=0.0 if activation is None else activation.alpha,
            kernel=kernel.variable,
            bias=None if bias is None else bias.variable,
            kernel_slots=self._adapter.slots(kernel.given),
            bias_slots=() if bias is None else self._adapter.slots(bias.given),
            kernel_decayed=self._adapter.decayed(kernel.given),
            bias_decayed=False if bias is None else self._adapter.decayed(bias.given),
            name=kernel.name,
            kernel_copy=kernel_copy,
        )

    def _copy(self, op: Any) -> None:
        """Adds the same operation on the inputs as they are now."""
        inputs = [self._now(tensor) for tensor in op.inputs]
        control = [self._operations.get(before, before) for before in op.control_inputs]
        copy = copy_op(op, inputs, control, op.name)
        self._operations[op] = copy
        for old, new in zip(op.outputs, copy.outputs, strict=True):
            self._tensors[old.ref()] = new

    def _now(self, tensor: Any) -> Any:
        """The tensor that stands for a tensor of the reference graph in this step."""
        return self._tensors.get(tensor.ref(), tensor)

    def _hyper_of(self, variable: Any) -> Any:
        """The hyperparameters in a variable's dtype, where it is."""
        key = (variable.dtype, place_of(variable))
        if key not in self._hyper:
            self._hyper[key] = self._adapter.hyper(variable.dtype)
        return self._hyper[key]

    def _variable(self, index: int) -> Trainable:
        return self.call.variables[index]

    def _seed_name(self, top: DenseLayer) -> str:
        for seed in self._reference.checked.seeds:
            if seed.checked is top.top:
                return seed.name
        return top.top.name

    def _before_update(self, chain: Chain) -> list[Any]:
        """What has to run before a chain's variables are written."""
        indices = [index for layer in chain for index in layer.variables]
        variables = [self._variable(index).variable for index in indices]
        if chain in self._replaced.values():
            return self._order.before_update(variables, later=self._below)
        # Nothing works on what such a chain returns, so that all copies are there already.
        before = self._order.before_update(variables)
        return [self._operations.get(op, op) for op in before]

    def _emit_updates(self) -> list[tf.Operation]:
        """Emits one op for all updated variables of a device and a dtype."""
        return [
            self._emit_update(pairs, self._update_args, multi_tensor_update)
            for pairs in _by_place(self._updated)
        ]

    def _check_ids(self) -> list[tf.Operation]:
        """Checks the ids of all tables, unless one op writes all variables of the step."""
        alone = not (self._chains or self._updated or self._declined)
        if alone and len(_by_place(self._tables)) == 1:
            return []
        checks = []
        for item, table in self._tables:
            with on_device_of(self.call.graph, item.variable):
                checks.append(check_ids(self._now(table.ids), item.variable.shape[0], item.name))
        return checks

    def _emit_tables(self) -> list[tf.Operation]:
        """Emits one op for all tables of a device and a dtype."""
        return [
            self._emit_update(pairs, self._table_args, table_update)
            for pairs in _by_place(self._tables)
        ]

    def _emit_update(
        self,
        pairs: Sequence[Pair],
        args: Callable[[Trainable, Any], Any],
        update: Callable[..., tf.Operation],
    ) -> tf.Operation:
        """Adds the op `update` for variables of one device and dtype, after their readers."""
        variables = [item.variable for item, _ in pairs]
        before = self._order.before_update(variables)
        assert self._rule is not None
        with on_device_of(self.call.graph, variables[0]):
            hyper = self._hyper_of(variables[0])
            arguments = [args(item, gradient) for item, gradient in pairs]
            with tf.control_dependencies([self._operations.get(op, op) for op in before]):
                return update(arguments, rule=self._rule.name, hyper=hyper, name=update.__name__)

    def _update_args(self, item: Trainable, gradient: Any) -> UpdateArgs:
        return UpdateArgs(
            gradient=self._now(gradient),
            variable=item.variable,
            slots=self._adapter.slots(item.given),
            decayed=self._adapter.decayed(item.given),
            name=item.name,
        )

    def _table_args(self, item: Trainable, table: TableGradient) -> TableArgs:
        width = item.variable.shape[1:].num_elements()
        gradient, ids, gradient_rows = table_tensors(table, width, self._now)
        return TableArgs(
            gradient=gradient,
            ids=ids,
            gradient_rows=gradient_rows,
            combiner=table.combiner,
            all_rows=self.updates_all_rows(item),
            sums_squares=not (table.distinct or self._adapter.adds_up_slices()),
            table=item.variable,
            slots=self._adapter.slots(item.given),
            decayed=self._adapter.decayed(item.given),
            name=item.name,
        )

    def _after_reads(self, gradient: Any, item: Trainable) -> Any:
        """A declined variable's gradient, available once the step has read the variable."""
        with tf.control_dependencies(self._order.readers(item.variable)):
            parts = [tf.identity(self._now(part)) for part in components(gradient)]
        return tf.IndexedSlices(*parts) if isinstance(gradient, tf.IndexedSlices) else parts[0]


def _by_place(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Variables of a device and a dtype together."""
    groups: dict[tuple[tf.DType, Place], list[Pair]] = {}
    for item, gradient in pairs:
        key = (item.variable.dtype, place_of(item.variable))
        groups.setdefault(key, []).append((item, gradient))
    return list(groups.values())


def _written(name: str, op: Any) -> str:
    return (
        f'the plan is out of date: "{name}" is written between splitop.plan and Plan.apply, so '
        "its forward pass has used another value. Call splitop.plan again after the write, "
        f'or splitop.minimize. Received: a write by {op.type} "{op.name}".'
    )
