"""Adding a planned step to the graph.

The reference graph stays as it is. What lies below a chain, and is still needed, is computed
from the fused op's output by a copy of the reference's operations; TensorFlow prunes the
originals that nothing uses any more. Changing their inputs instead would not reach a session
that has already run the graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.accumulated import Accumulated
from splitop._src.clipping import EXACT, NONE, Clipping
from splitop._src.dense_sweep import dense_sweep
from splitop._src.emit_tables import check_ids, ids_gradient, table_tensors
from splitop._src.errors import SplitError
from splitop._src.exchange import Exchange
from splitop._src.graph import reach
from splitop._src.graph.copy import copy_op
from splitop._src.graph.devices import may_be_on_gpu, on_device_of
from splitop._src.graph.gradient_graph import (
    GradientGraph,
    as_rows,
    components,
    joined_rows,
    makes_rows,
)
from splitop._src.graph.layers import DenseLayer
from splitop._src.graph.tables import TableGradient, renamed
from splitop._src.norms import SquaredNorms
from splitop._src.ops import LayerArgs
from splitop._src.optimizers import Accumulation, OptimizerAdapter, UpdateRule
from splitop._src.optimizers.rules import SGD
from splitop._src.own_forward import own_forward
from splitop._src.own_lookup import OwnLookups, own_lookups
from splitop._src.own_product import emit_product, own_product
from splitop._src.reference import Reference
from splitop._src.replicas import Replicas
from splitop._src.table_lookup import table_lookup
from splitop._src.updates import Pair, SweptLayer, Updates, by_place
from splitop._src.validate import Call, Trainable, current_graph
from splitop._src.write_order import WriteOrder
from splitop._src.xla import Check, in_xla, passed

Chain = tuple[DenseLayer, ...]


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
        updated: Collection[int],
        tables: Mapping[int, TableGradient],
        clipping: Clipping,
        lazy: bool,
        replicas: Replicas | None,
        alone: bool | None = None,
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
            clipping: What is done to the gradients before the update.
            lazy: Whether the rule is applied to no row but those looked up.
            replicas: Those that take the step together; None: there is one.
            alone: Whether the forward pass is run for this step only: see `own_forward`.
        """
        self.call = call
        self._adapter = adapter
        self._reference = reference
        self._gradients = gradients
        self._chains = tuple(chains)
        self._tables = list(tables.items())
        self._declined: list[Pair[Any]] = []
        self._updated: list[Pair[Any]] = []
        fused = {index for chain in chains for layer in chain for index in layer.variables}
        for index, gradient in enumerate(reference.gradients):
            if index not in fused and index not in tables:
                (self._updated if index in updated else self._declined).append((index, gradient))
        self._planned = len(call.graph.get_operations())
        self._makes_products = not in_xla(call.graph)  # XLA makes them as fast
        self._needed = self._find_needed()
        self._replaced: dict[Any, Chain] = {}
        for chain in chains:
            bottom = chain[-1].input_gradient
            if bottom is not None and self.emits_input_gradient(chain):
                self._replaced[bottom.ref()] = chain
        self._below = self._find_below()
        self._seeded_by_op = self._find_chain_that_checks_the_seed()
        self._order: WriteOrder  # of what runs, which is settled by the time of `run`
        self._tensors: dict[Any, Any] = {}
        self._operations: dict[Any, Any] = {}
        self._swept: list[SweptLayer] = []
        self._norms = SquaredNorms()
        self._updates: Updates | None = None
        self._accumulated: Accumulated | None = None
        self._replicas = replicas
        self._checks: list[Check] = []  # inside XLA: what no operation of the graph does
        trained = fused | set(updated) | tables.keys()  # by fused ops
        updated_by: OptimizerAdapter | Accumulation = adapter
        accumulation = None if rule is None else adapter.accumulation()
        if rule is not None and accumulation is not None:
            indices = sorted(trained)
            self._accumulated = Accumulated(adapter, rule, accumulation, clipping, call, indices)
            updated_by, rule, lazy = accumulation, SGD, False
            clipping = clipping.before_accumulation()
        self._clipping = clipping
        self._combined = clipping if replicas is None else clipping.after_exchange()
        if rule is not None:
            self._updates = Updates(updated_by, rule, call, self._combined, lazy, self._now)
        self._in_two_passes = (
            clipping.norms != NONE or self._accumulated is not None or replicas is not None
        )
        # Those whose forward pass the op runs, with the lookups that are made for them alone.
        self._forward: dict[Chain, OwnLookups | None] = {}
        if not self._in_two_passes:
            for chain in self._chains:
                running = self._needed | self._before_chain(chain)
                if own_forward(chain, call, gradients, running, alone):
                    self._forward[chain] = own_lookups(
                        chain, call, trained, gradients, running, self._below, alone
                    )

    def runs_forward(self, chain: Chain) -> bool:
        """Whether the fused op runs the forward pass of a chain itself."""
        return chain in self._forward

    def looks_up(self, index: int) -> bool:
        """Whether an op of the step's own looks rows of a table up."""
        lookups = [lookup for own in self._own_lookups() for lookup in own.lookups]
        return any(lookup.table == index for lookup in lookups)

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

    def updates_all_rows(self, index: int) -> bool:
        """Whether the step updates the rows of a table that were not looked up, too."""
        return self._accumulated is not None or self._fused().updates_all_rows(index)

    def run(self, global_step: Any | None) -> tf.Operation:
        """Adds the step to the current graph; returns the operation that runs it."""
        if current_graph("Plan.apply") is not self.call.graph:
            raise SplitError(
                "Plan.apply must be called in the graph that the plan was made in; for a step "
                "inside tf.cond, tf.while_loop or a nested tf.function, plan in there too. "
                "Received: another graph."
            )
        self._check_not_written()
        replaced = [bottom.deref() for bottom in self._replaced]
        self._order = WriteOrder(
            self.call,
            self._reference,
            self._gradients,
            self._needed,
            self._given(),
            replaced,
        )
        self._adapter.prepare([item.given for item in self.call.variables])
        with tf.name_scope("splitop/fused"):
            id_checks = self._guard_ids()
            self._look_up()
            needs_norms = self._clipping.norms != NONE
            if not needs_norms:
                self._clipping.resolve(self._norms)
            fused = self._emit_chains()
            if needs_norms:
                self._add_norms()
                self._clipping.resolve(self._norms)
            if self._replicas is not None:
                self._exchange(self._replicas)
            fused += self._emit_layers()
            fused += [self._emit_updates(pairs) for pairs in by_place(self.call, self._updated)]
            fused += [self._emit_tables(pairs) for pairs in by_place(self.call, self._tables)]
            if self._accumulated is not None:
                fused = [self._accumulated.update_if_due(fused, self._combined.condition)]
        pairs = [self._after_reads(*pair) for pair in self._declined]
        checks = () if self._seeded_by_op is not None else self._reference.checked.checks
        with tf.control_dependencies([*checks, *id_checks]):
            return self._adapter.finish(fused, pairs, global_step, self._combined.condition)

    def _check_not_written(self) -> None:
        """The op multiplies by the kernels as they are then, so they must be those planned for.

        Where the op would also run the forward pass, or look rows up, TensorFlow's is used.
        """
        if not self.call.graph.building_function:
            return
        added = set(self.call.graph.get_operations()[self._planned :])
        for index in self._read_by_ops():
            for op in self._writers(index) & added:
                raise SplitError(_written(self._variable(index).name, op))
        for chain, own in list(self._forward.items()):
            if own is not None and any(self._writers(each.table) & added for each in own.lookups):
                self._forward[chain] = None
            if any(self._writers(index) & added for layer in chain for index in layer.variables):
                del self._forward[chain]

    def _writers(self, index: int) -> set[Any]:
        handle = reach.handle(self.call.graph, self._variable(index).variable)
        return set(reach.writers(handle))

    def _read_by_ops(self) -> list[int]:
        """Indices of the variables that the backward pass uses, besides updating them."""
        read = []
        for chain in self._chains:
            multiplied = chain if chain in self._replaced.values() else chain[:-1]
            # A copy is what the forward pass has used.
            read += [layer.kernel for layer in multiplied if layer.kernel_copy is None]
        return read

    def _find_needed(self) -> frozenset[Any]:
        """The gradient ops that still have to run, as they are or as copies."""
        wanted = self._plain_gradients()
        for chain in self._chains:
            wanted += chain[0].tops
            wanted += [tensor for layer in chain for tensor in layer.forward_tensors]
        bottoms = [chain[-1].input_gradient for chain in self._chains]
        return self._gradients.closure(wanted, [bottom for bottom in bottoms if bottom is not None])

    def _before_chain(self, chain: Chain) -> frozenset[Any]:
        """What has to run before the fused ops, but for the forward pass of a chain."""
        given = [top for each in self._chains for top in each[0].tops]
        others = [layer for each in self._chains if each is not chain for layer in each]
        given += [tensor for layer in others for tensor in layer.forward_tensors]
        given += [tensor for _, table in self._tables for tensor in table.tensors]
        return frozenset(tensor.op for tensor in given if tensor.ref() not in self._replaced)

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
                # The rows follow from the batch alone if the rest makes up whole rows, x's too.
                whole = tensor.shape[1:].num_elements() % chain[0].outputs == 0 and all(
                    makes_rows(x, layer.inputs) for layer in chain for x in layer.xs
                )
                return chain if whole and chain[0].entry.issuperset(users) else None
        return None

    def _plain_gradients(self) -> list[Any]:
        """What the reference graph has to compute besides what the chains take."""
        gradients = [gradient for _, gradient in [*self._declined, *self._updated]]
        return gradients + [tensor for _, table in self._tables for tensor in table.tensors]

    def _given(self) -> list[Any]:
        """What the fused ops take of the graph, in the words of the reference."""
        given = [tensor for _, table in self._tables for tensor in table.tensors]
        for chain in self._chains:
            if self.runs_forward(chain):
                given.append(chain[-1].x)
            else:
                given += [tensor for layer in chain for tensor in layer.forward_tensors]
        return given

    def _fused(self) -> Updates:
        assert self._updates is not None
        return self._updates

    def _own_lookups(self) -> list[OwnLookups]:
        return [own for own in self._forward.values() if own is not None]

    def _look_up(self) -> None:
        """Emits the lookups of the step's own, and copies of what comes after them."""
        for own in self._own_lookups():
            for lookup in own.lookups:
                item = self._variable(lookup.table)
                with on_device_of(self.call.graph, item.variable):
                    rows = table_lookup(
                        item.variable, lookup.ids, table_name=item.name, name="table_lookup"
                    )
                rows.set_shape(lookup.rows.shape)
                self._tensors[lookup.rows.ref()] = rows
                self._order.add_guards([rows.op])
            for op in own.between:
                self._copy(op)

    def _emit_chains(self) -> list[tf.Operation]:
        """Emits chains and copies in an order that has all inputs ready.

        Returns:
            What updates variables: nothing if all norms have to be known before.
        """
        fused = []
        pending = list(self._chains)
        bottoms = {ref.deref().op: chain for ref, chain in self._replaced.items()}
        for op in self._gradients.in_order(self._needed | bottoms.keys()):
            if op in bottoms:
                fused += self._emit_chain(bottoms[op])
                pending.remove(bottoms[op])
            elif op in self._below:
                self._copy(op)
        for chain in pending:
            fused += self._emit_chain(chain)
        return fused

    def _emit_chain(self, chain: Chain) -> list[tf.Operation]:
        top, bottom = chain[0], chain[-1].input_gradient
        seeds = [self._now(tensor) for tensor in top.tops]
        if chain is self._seeded_by_op:
            seeds = [self._reference.checked.seeds[0].raw]
        wants_gradient = bottom is not None and bottom.ref() in self._replaced
        with on_device_of(self.call.graph, self._variable(top.kernel).variable):
            rows = joined_rows([as_rows(seed, top.outputs) for seed in seeds])
            forward = chain in self._forward
            arguments = [
                self._fused().layer(
                    layer,
                    wants_gradient=layer is not chain[-1] or wants_gradient,
                    given_x=layer is chain[-1] or not forward,
                    given_reference=not forward,
                )
                for layer in chain
            ]
            if self._in_two_passes:
                fused, input_gradient = [], self._sweep(chain, rows, arguments, wants_gradient)
            else:
                before = self._before_update(chain)
                operation, input_gradient = self._fused().chain(
                    rows, chain, arguments, before, wants_gradient, self._seed_name(top), forward
                )
                fused = [operation]
            if bottom is not None and input_gradient is not None:
                if not chain[-1].input_gradient_is_matrix:
                    x = self._now(chain[-1].x)
                    input_gradient = tf.reshape(input_gradient, tf.shape(x))
                self._tensors[bottom.ref()] = input_gradient
        return fused

    def _sweep(
        self, chain: Chain, rows: Any, arguments: Sequence[LayerArgs], wants_gradient: bool
    ) -> tf.Tensor | None:
        """Emits the backward pass of a chain without its update; returns dL/dx if wanted."""
        kernels = [self._variable(layer.kernel).variable for layer in chain]
        # What several replicas add up is no replica's own gradient.
        keep = self._clipping.norms == EXACT and self._replicas is None
        sweep = dense_sweep(
            rows,
            [
                dataclasses.replace(args, kernel=kernel)
                for args, kernel in zip(arguments, kernels, strict=True)
            ],
            norms=self._clipping.norms,
            input_gradient=wants_gradient,
            keep=keep,
            seed_name=self._seed_name(chain[0]),
            name="dense_sweep",
        )
        for position, layer in enumerate(chain):
            norms = sweep.squared_norms
            if norms is not None:
                norms = norms[: len(layer.variables), position]
                self._norms.add(layer.variables, norms)
            linear = dataclasses.replace(
                arguments[position],
                reference=None,
                activation="linear",
                kernel_copy=None,
                kernel_gradient=sweep.kernel_gradients[position] if keep else None,
            )
            self._swept.append(SweptLayer(layer, sweep.gradients[position], linear, norms))
        return sweep.input_gradient

    def _exchange(self, replicas: Replicas) -> None:
        """Puts what the gradients of all replicas are made from in the place of this one's."""
        if self._updates is not None:
            layers = [index for swept in self._swept for index in swept.layer.variables]
            in_memory = [index for index, _ in [*self._updated, *self._tables]]
            # TF1's optimizers keep those of the replica that has worked them out last.
            self._updates.work_out_hyper(layers + in_memory)
        before = [*self._reference.checked.checks, *self._order.before_update([])]
        exchange = Exchange(replicas, self.call, self._clipping, self._now)
        combined = exchange.run(self._swept, self._updated, self._tables, before)
        self._swept, self._updated = combined.swept, combined.updated
        self._tables, self._combined.condition = combined.tables, combined.condition

    def _emit_layers(self) -> list[tf.Operation]:
        """Emits the updates of the layers that were swept."""
        fused = []
        for swept in self._swept:
            chain = (swept.layer,)
            with on_device_of(self.call.graph, swept.arguments.kernel):
                operation, _ = self._fused().chain(
                    swept.gradient,
                    chain,
                    [swept.arguments],
                    self._before_update(chain),
                    input_gradient=False,
                    seed_name=swept.gradient.name,
                )
            fused.append(operation)
        return fused

    def _add_norms(self) -> None:
        """Adds the norms of all gradients that no chain has."""
        for index, table in self._tables:
            self._norms.add_gradients([(index, self._ids_gradient(index, table))], self.call)
        for pairs in by_place(self.call, self._updated):
            now = [(index, self._now(gradient)) for index, gradient in pairs]
            self._norms.add_gradients(now, self.call)
        for index, gradient in self._declined:
            values = components(gradient)[0]
            if self._adapter.replaces(self._variable(index).given):
                self._norms.add_unclipped(index)
            self._norms.add_gradients([(index, self._now(values))], self.call)

    def _ids_gradient(self, index: int, table: TableGradient) -> tf.Tensor:
        """A tensor with the norm of what an optimizer is given for a table."""
        width = self._variable(index).variable.shape[1:].num_elements()
        gradient, _, gradient_rows = table_tensors(table, width, self._now)
        return ids_gradient(gradient, gradient_rows, table.combiner)

    def _copy(self, op: Any) -> None:
        """Adds the same operation on the inputs as they are now."""
        inputs = [self._now(tensor) for tensor in op.inputs]
        control = [self._operations.get(before, before) for before in op.control_inputs]
        product = own_product(op) if self._makes_products else None
        if product is None:
            copy = copy_op(op, inputs, control, op.name)
        else:
            with tf.control_dependencies(control), tf.device(op.device):
                result = emit_product(product, inputs, op.name)
            result.set_shape(op.outputs[0].shape)
            copy = result.op
        self._operations[op] = copy
        for old, new in zip(op.outputs, copy.outputs, strict=True):
            self._tensors[old.ref()] = new

    def _now(self, tensor: Any) -> Any:
        """The tensor that stands for a tensor of the reference graph in this step."""
        return self._tensors.get(tensor.ref(), tensor)

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
        if not self._in_two_passes and chain in self._replaced.values():
            return self._order.before_update(variables, later=self._below)
        # Nothing works on what such a chain returns, so that all copies are there already.
        before = self._order.before_update(variables)
        return [self._operations.get(op, op) for op in before]

    def _emit_updates(self, pairs: Sequence[Pair[Any]]) -> tf.Operation:
        """Emits one op for updated variables of one device and dtype."""
        return self._fused().tensors(pairs, self._after_readers(pairs))

    def _emit_tables(self, pairs: Sequence[Pair[TableGradient]]) -> tf.Operation:
        """Emits one op for tables of one device and dtype."""
        return self._fused().tables(pairs, self._after_readers(pairs))

    def _after_readers(self, pairs: Sequence[Pair[Any]]) -> list[Any]:
        """What has to run before variables with a gradient in memory are written."""
        variables = [self._variable(index).variable for index, _ in pairs]
        return [self._operations.get(op, op) for op in self._order.before_update(variables)]

    def _guard_ids(self) -> list[tf.Operation]:
        """Has the ids checked before anything is written; returns the operations that do it."""
        checks = self._check_ids()
        if in_xla(self.call.graph):
            self._checks = checks
            if self._updates is not None:
                self._updates.wait_for(checks)
            return []
        operations = [check.operation() for check in checks]
        self._order.add_guards(operations)
        return operations

    def _check_ids(self) -> list[Check]:
        """Checks the ids of all tables, unless one op writes all variables of the step.

        Not on GPUs, where TensorFlow does not either: the step would wait for the answer. Nor where
        a lookup of the step's own does, outside XLA, which does not order it.
        """
        alone = not (self._chains or self._updated or self._declined)
        if alone and len(by_place(self.call, self._tables)) == 1:
            return []
        lookups = [lookup for own in self._own_lookups() for lookup in own.lookups]
        looked_up = {(lookup.table, lookup.ids.ref()) for lookup in lookups}
        if in_xla(self.call.graph):
            looked_up = set()
        checks: list[Check] = []
        for index, table in self._tables:
            item = self._variable(index)
            if may_be_on_gpu(item.variable) or (index, renamed(table.ids).ref()) in looked_up:
                continue
            with on_device_of(self.call.graph, item.variable):
                checks.append(check_ids(self._now(table.ids), item.variable.shape[0], item.name))
        return checks

    def _after_reads(self, index: int, gradient: Any) -> tuple[Any, Any]:
        """A declined variable and its gradient, available once the step has read the variable."""
        item = self._variable(index)
        slices = isinstance(gradient, tf.IndexedSlices)
        with tf.control_dependencies(self._order.readings(item.variable)):
            parts = [tf.identity(self._now(part)) for part in components(gradient)]
        parts[0] = passed(parts[0], self._checks)
        if not self._adapter.replaces(item.given):
            parts[0] = self._clipping.clip_by_all(parts[0])
        return (tf.IndexedSlices(*parts) if slices else parts[0]), item.given


def _written(name: str, op: Any) -> str:
    return (
        f'the plan is out of date: "{name}" is written between splitop.plan and Plan.apply, so '
        "its forward pass has used another value. Call splitop.plan again after the write, "
        f'or splitop.minimize. Received: a write by {op.type} "{op.name}".'
    )
