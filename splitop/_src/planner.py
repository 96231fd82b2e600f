"""The planner: which variables the fused op trains, in which chains, and why not the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src import backend as backends
from splitop._src import library
from splitop._src import replicas as distribution
from splitop._src.agreement import UNLIKE, agree
from splitop._src.clipping import Clipping
from splitop._src.emit import Emission
from splitop._src.errors import NotFusableError, SplitError
from splitop._src.graph import reach
from splitop._src.graph.dense import (
    WAITS,
    BiasGradient,
    KernelGradient,
    is_bias_of,
    match_bias,
    match_input_gradient,
    match_kernel,
    producer,
    summands,
    uncast,
)
from splitop._src.graph.devices import may_be_on_gpu, on_host_of, place_of
from splitop._src.graph.gradient_graph import GradientGraph
from splitop._src.graph.layers import DenseLayer, link_chains, read_layer
from splitop._src.graph.products import BATCHED
from splitop._src.graph.reasons import (
    gradient_reason,
    graph_reason,
    several_places,
    variable_reason,
)
from splitop._src.graph.tables import TableGradient, match_table
from splitop._src.optimizers import (
    GradientOptions,
    OptimizerAdapter,
    UpdateRule,
    adapter_for,
)
from splitop._src.reference import Reference, build_reference
from splitop._src.replicas import Replicas
from splitop._src.table import table
from splitop._src.validate import Call, Trainable

Chains = tuple[tuple[DenseLayer, ...], ...]

EXACT, LAZY = "exact", "lazy"


@dataclasses.dataclass(frozen=True)
class PlannedLayer:
    """A dense layer that the fused op trains.

    Attributes:
        kernel: Name of its kernel.
        bias: Name of its bias, or None.
        activation: The activation whose gradient the op computes; "linear" if there is none,
            or if other operations need the gradient behind it.
    """

    kernel: str
    bias: str | None
    activation: str


@dataclasses.dataclass(frozen=True)
class PlannedChain:
    """Dense layers that one execution of the fused op trains, from the top down.

    Attributes:
        layers: At least one; the input of each is the output of the next.
        input_gradient: Whether something below needs the gradient of the chain's input.
        forward: Whether the op runs the layers' forward pass, too: on CPUs, if nothing
            else is seen to read what this computes.
    """

    layers: tuple[PlannedLayer, ...]
    input_gradient: bool
    forward: bool = False


@dataclasses.dataclass(frozen=True)
class PlannedTable:
    """An embedding table that the fused op trains.

    Attributes:
        table: Name of the variable.
        combiner: How the rows of a bag are combined, "sum", "mean" or "sqrtn", where the op takes
            one gradient for a bag; None: one for each id.
        all_rows: Whether a step updates every row, as the optimizer does; else those looked up.
        forward: Whether the step looks the rows up by an op of its own, too: on CPUs, below a chain
            whose forward pass is run by the op, if nothing else is seen to read the rows.
    """

    table: str
    combiner: str | None
    all_rows: bool
    forward: bool = False

    def __str__(self) -> str:
        """A few words for the plan's table."""
        rows = "all rows" if self.all_rows else "the rows looked up"
        bags = "" if self.combiner is None else ", one gradient a bag"
        passes = ", both passes" if self.forward else ""
        return f"table, {rows}{bags}{passes}"


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What trains each variable of a call; `str` makes a table.

    Attributes:
        fused: Names of the variables that the fused ops train, in the order of `var_list`.
        updated: Name of each of them whose gradient TensorFlow computes, so that only its update
            is fused, and why.
        declined: Name of every other variable, and why TensorFlow's own ops train it.
        chains: What each execution of the op that fuses the backward pass too trains.
        tables: The embedding tables among the fused variables.
    """

    fused: tuple[str, ...]
    updated: dict[str, str]
    declined: dict[str, str]
    chains: tuple[PlannedChain, ...]
    tables: tuple[PlannedTable, ...]
    _emission: Emission = dataclasses.field(repr=False)
    _applied: list[Any] = dataclasses.field(default_factory=list, init=False, repr=False)

    @tf.autograph.experimental.do_not_convert
    def apply(self, *, global_step: Any | None = None) -> tf.Operation:
        """Adds the step to the graph.

        Args:
            global_step: Variable to increment by one at the end of the step, or None.

        Returns:
            One operation that runs the whole step: all updates, counters once.

        Raises:
            SplitError: Called twice, in another graph than the one planned for, or after
                something else in the tf.function wrote a variable that the plan reads.
            VariableListError: The optimizer can't update the variables.
        """
        if self._applied:
            raise SplitError(
                "Plan.apply adds one step to the graph and can be called once; call "
                "splitop.plan again for another step. Received: a plan that is applied."
            )
        with on_host_of(item.variable for item in self._emission.call.variables):
            step = self._emission.run(global_step)
        self._applied.append(step)
        return step

    def __str__(self) -> str:
        """A table with a row for each variable."""
        rows = [("variable", "shape", "path", "how, or why not"), *self._rows()]
        return f"{table(rows)}\n{len(self.fused)} of {len(rows) - 1} variables are fused"

    def _rows(self) -> list[tuple[str, str, str, str]]:
        how = {planned.table: str(planned) for planned in self.tables}
        for number, chain in enumerate(self.chains, 1):
            for position, layer in enumerate(chain.layers, 1):
                where = f"chain {number}, layer {position} of {len(chain.layers)}"
                passes = ", both passes" if chain.forward else ""
                how[layer.kernel] = f"{where}, {layer.activation}{passes}"
                if layer.bias is not None:
                    how[layer.bias] = f"{where}, bias"
        paths = (("fused", how), ("fused update", self.updated), ("reference", self.declined))
        rows = []
        for item in self._emission.call.variables:
            shape = "×".join(str(extent) for extent in item.variable.shape) or "scalar"
            path, details = next(entry for entry in paths if item.name in entry[1])
            rows.append((item.name, shape, path, details[item.name]))
        return rows


def make_plan(
    optimizer: Any,
    call: Call,
    *,
    backend: str | None = None,
    check_numerics: bool = False,
    sparse: str = EXACT,
    skip_nonfinite: bool = False,
    keep: Sequence[Any] = (),
    reference: Reference | None = None,
    alone: bool | None = None,
) -> tuple[Plan, tuple[Any, ...]]:
    """Builds the reference gradients and plans what the fused op takes over.

    Args:
        optimizer: The user's optimizer.
        call: The checked arguments.
        backend: "auto", "fused", "reference", or None for the one that is set.
        check_numerics: Whether NaN or Inf in a seed is an error at run time.
        sparse: "exact" or "lazy".
        skip_nonfinite: Whether a step is left out if a gradient is not finite.
        keep: Further tensors whose gradients are wanted. They stay on the reference path,
            so that they can be computed without training anything.
        reference: The gradients, if the caller has built them; None: they are built here.
        alone: Whether the forward pass is run for this step only; False: what it has computed is
            there; None: the graph tells.

    Returns:
        The plan, and the gradients of `keep`.

    Raises:
        NotFusableError: With backend="fused", if any variable can't be fused; with sparse="lazy",
            if a table can't.
        SplitError: Not an optimizer, or an argument that does not fit.
    """
    check_sparse(sparse)
    path = backends.resolve(backend)
    adapter = adapter_for(optimizer)
    if reference is None:
        fuses = _rule_or_cause(adapter, path, call.graph, ())[0] is not None
        reference = build_reference(call, extra=keep, check_numerics=check_numerics, own_ops=fuses)
    kept = [gradient for gradient in reference.extra if gradient is not None]
    gradients = GradientGraph(reference.ops, reference.gradients, kept)
    rule, cause = _rule_or_cause(adapter, path, call.graph, reference.ops)
    clipping = Clipping(_gradient_options(adapter, rule, skip_nonfinite))
    replicas = distribution.replicas()
    if rule is None:
        found = _Found((), {}, {}, dict.fromkeys(range(len(call.variables)), cause))
    else:
        found = _sort_out(adapter, rule, clipping, call, reference, gradients, replicas)
        found = _without_parts_of_a_norm(adapter, clipping, found)
    if len(found.declined) == len(call.variables):
        # The optimizer does all by itself.
        rule, clipping = None, Clipping(_gradient_options(adapter, None, skip_nonfinite))
    if path == backends.FUSED and found.declined:
        raise NotFusableError(_not_fusable(call, found.declined))
    lazy = sparse == LAZY
    if lazy:
        _check_lazy(adapter, call, reference, found.declined)
    chains = found.chains
    emission = Emission(
        adapter,
        rule,
        call,
        reference,
        gradients,
        chains,
        found.updated,
        found.tables,
        clipping,
        lazy,
        replicas,
        alone,
    )
    names = [item.name for item in call.variables]
    plan = Plan(
        fused=tuple(name for index, name in enumerate(names) if index not in found.declined),
        updated={names[index]: why for index, why in sorted(found.updated.items())},
        declined={names[index]: why for index, why in sorted(found.declined.items())},
        chains=tuple(
            _summary(
                chain, emission.emits_input_gradient(chain), emission.runs_forward(chain), names
            )
            for chain in chains
        ),
        tables=tuple(
            PlannedTable(
                table=names[index],
                combiner=table.combiner if table.in_bags else None,
                all_rows=emission.updates_all_rows(index),
                forward=emission.looks_up(index),
            )
            for index, table in sorted(found.tables.items())
        ),
        _emission=emission,
    )
    return plan, reference.extra


def _gradient_options(
    adapter: OptimizerAdapter, rule: UpdateRule | None, skip_nonfinite: bool
) -> GradientOptions:
    """What is done to the gradients outside of the optimizer's own step."""
    options = GradientOptions() if rule is None else adapter.gradient_options()
    return dataclasses.replace(options, finite_only=True) if skip_nonfinite else options


def check_sparse(sparse: str) -> None:
    """Raises SplitError for an unknown way to update tables."""
    if sparse not in (EXACT, LAZY):
        raise SplitError(f'sparse must be one of "exact", "lazy". Received: {sparse!r}.')


def _check_lazy(
    adapter: OptimizerAdapter, call: Call, reference: Reference, declined: dict[int, str]
) -> None:
    """No optimizer of TensorFlow's has a lazy step, so that there is none to fall back on."""
    accumulation = adapter.accumulation()
    for index, gradient in enumerate(reference.gradients):
        if not isinstance(gradient, tf.IndexedSlices):
            continue
        item = call.variables[index]
        if accumulation is not None:
            raise NotFusableError(
                f'sparse="lazy" updates the rows of "{item.name}" that one step has looked up, but '
                "the optimizer adds up the gradients of several. Received: "
                f"gradient_accumulation_steps={accumulation.steps}."
            )
        if index in declined and adapter.updates_all_rows(item.given):
            raise NotFusableError(
                f'sparse="lazy" was asked for, but the table "{item.name}" can\'t be fused, and '
                f"the reference path updates all rows. Received: {declined[index]}."
            )


def _rule_or_cause(
    adapter: OptimizerAdapter, path: str, graph: Any, gradient_ops: Sequence[Any]
) -> tuple[UpdateRule | None, str]:
    """The op's rule for this optimizer, or why nothing can be fused at all."""
    if path == backends.REFERENCE:
        return None, 'backend="reference"'
    missing = library.reason()
    if missing is not None:
        library.warn_once()
        return None, missing
    rule = adapter.rule()
    if isinstance(rule, str):
        return None, rule
    cause = graph_reason(graph, gradient_ops)
    return (None, cause) if cause is not None else (rule, "")


@dataclasses.dataclass(frozen=True)
class _Found:
    """What trains each variable, by its index: in a chain, or for a reason otherwise."""

    chains: Chains
    tables: dict[int, TableGradient]
    updated: dict[int, str]
    declined: dict[int, str]


def _sort_out(
    adapter: OptimizerAdapter,
    rule: UpdateRule,
    clipping: Clipping,
    call: Call,
    reference: Reference,
    gradients: GradientGraph,
    replicas: Replicas | None,
) -> _Found:
    """Finds the chains of dense layers, and the reasons of the variables that are in none."""
    kernels: dict[int, KernelGradient] = {}
    biases: dict[int, BiasGradient] = {}
    tables: dict[int, TableGradient] = {}
    updated: dict[int, str] = {}
    declined: dict[int, str] = {}
    in_memory = clipping.changes_gradients or adapter.accumulation() is not None
    for index, (item, gradient) in enumerate(zip(call.variables, reference.gradients, strict=True)):
        reason = _update_reason(adapter, rule, clipping, item, call.graph)
        if reason is not None:
            declined[index] = reason
            continue
        if isinstance(gradient, tf.IndexedSlices):
            table = match_table(gradients, gradient, item.variable.shape[1:])
            if table.distinct and clipping.is_on and adapter.accumulation() is None:
                # What is clipped is the sum of the gradients of a row, as TensorFlow makes it.
                table = TableGradient(gradient.values, gradient.indices, distinct=True)
            if table.distinct and replicas is not None and not adapter.adds_up_slices():
                # Each replica has such a sum of its own.
                table = TableGradient(gradient.values, gradient.indices)
            reason = _repeated_ids_reason(adapter, rule, table)
            if reason is None:
                tables[index] = table
            else:
                declined[index] = reason
            continue
        match = (
            _rowwise_reason(adapter, rule)
            or _gpu_reason(rule, in_memory or replicas is not None, item.variable)
            or _replica_reason(replicas, clipping)
            or gradient_reason(gradient, item.variable)
            or _reread_reason(call.graph, item.variable, gradients)
            or _match(gradients, item.variable, gradient)
        )
        if isinstance(match, KernelGradient):
            kernels[index] = match
        elif isinstance(match, BiasGradient):
            biases[index] = match
        else:
            updated[index] = match
    layers = [_read_layer(call, gradients, kernel, biases, updated) for kernel in kernels.items()]
    for index, bias in biases.items():
        updated[index] = bias.otherwise
    if replicas is not None:
        agreement = agree(replicas, layers, tables, updated, declined)
        if agreement is None:
            return _Found((), {}, {}, dict.fromkeys(range(len(call.variables)), UNLIKE))
        layers, updated = agreement.gathered, updated | agreement.added_up
    return _Found(link_chains(gradients, layers), tables, updated, declined)


def _without_parts_of_a_norm(
    adapter: OptimizerAdapter, clipping: Clipping, found: _Found
) -> _Found:
    """Everything is declined where the fused op would have to know accumulators of TensorFlow's."""
    if adapter.accumulation() is None or not clipping.by_global_norm or not found.declined:
        return found
    why = found.declined[min(found.declined)]
    trained = [i for chain in found.chains for layer in chain for i in layer.variables]
    cause = (
        "the global norm is that of gradients that are added up, and TensorFlow's own ops add up "
        f"some of them ({why})"
    )
    fused = dict.fromkeys([*trained, *found.tables, *found.updated], cause)
    return _Found((), {}, {}, {**fused, **found.declined})


def _update_reason(
    adapter: OptimizerAdapter, rule: UpdateRule, clipping: Clipping, item: Trainable, graph: Any
) -> str | None:
    """Why the ops can't update a variable, whatever computes its gradient; or None."""
    return (
        adapter.declines(item.given)
        or variable_reason(item.variable, graph, clipping.may_skip)
        or _slot_reason(adapter, item)
        or _rowwise_device_reason(rule, item.variable)
    )


def _rowwise_device_reason(rule: UpdateRule, variable: Any) -> str | None:
    """Why a row-wise rule can't update a variable where it is, or None."""
    if rule.rowwise and may_be_on_gpu(variable):
        return f"the update rule {rule.name} is fused on CPUs only"
    return None


def _rowwise_reason(adapter: OptimizerAdapter, rule: UpdateRule) -> str | None:
    """Why a row-wise rule is not fused with the backward pass of dense layers, or None."""
    if not rule.rowwise or adapter.accumulation() is not None:
        return None  # What is fused then is the accumulation.
    return (
        f"the update rule {rule.name} takes each row of a gradient as a whole, which the fused "
        "backward pass never has"
    )


def _gpu_reason(rule: UpdateRule, in_memory: bool, variable: Any) -> str | None:
    """Why a GPU can't fuse the backward pass with this optimizer's update, or None."""
    if not may_be_on_gpu(variable):
        return None
    if not rule.gpu_chains:
        return f"on GPUs the backward pass is not fused with the update rule {rule.name}"
    if in_memory:
        return (
            "on GPUs a gradient that is scaled, clipped, checked or added up, with those of other "
            "steps or replicas, is in memory first"
        )
    return None


def _replica_reason(replicas: Replicas | None, clipping: Clipping) -> str | None:
    """Why the gradients of a replica have to be in memory, or None."""
    if replicas is None or clipping.by_one_factor:
        return None
    return "each replica clips its gradients one by one before they are added up"


def _repeated_ids_reason(
    adapter: OptimizerAdapter, rule: UpdateRule, table: TableGradient
) -> str | None:
    """Why the op can't do what the optimizer does with several gradients of one row, or None."""
    if table.distinct or adapter.adds_up_slices() or rule.sums_squares:
        return None
    if adapter.accumulation() is not None:
        return None  # The accumulator is given their sum.
    return (
        "its gradient is sparse (IndexedSlices), and the optimizer takes the gradients of an id "
        f"that is looked up twice one by one: the rule {rule.name} has no fused step like that"
    )


def _read_layer(
    call: Call,
    gradients: GradientGraph,
    kernel: tuple[int, KernelGradient],
    biases: dict[int, BiasGradient],
    updated: dict[int, str],
) -> DenseLayer:
    """The layer of a kernel; moves its bias out of `biases`, to `updated` if it is elsewhere."""
    variable = call.variables[kernel[0]].variable
    bias = _bias_of(gradients, kernel[1], biases)
    if bias is not None:
        index, _ = bias
        del biases[index]
        reason = _bias_device_reason(call.variables[index].variable, variable)
        if reason is not None:
            updated[index], bias = reason, None
    handle = reach.handle(call.graph, variable)
    # The layer's gradients in one place may depend on dL/dx in another one.
    below = None if kernel[1].others else match_input_gradient(gradients, kernel[1], handle)
    return read_layer(gradients, kernel, bias, below, place_of(variable))


def _slot_reason(adapter: OptimizerAdapter, item: Trainable) -> str | None:
    """The op updates a variable and its slots on one device."""
    place = place_of(item.variable)
    for slot in adapter.existing_slots(item.given):
        if place_of(slot) != place:
            return f'the device of its slot "{slot.name}" is {place_of(slot)}, its own is {place}'
    return None


def _match(
    gradients: GradientGraph, variable: Any, gradient: Any
) -> KernelGradient | BiasGradient | str:
    """What a variable is to a dense layer, or why it is nothing."""
    first, *others = (_match_term(gradients, variable, term) for term in summands(uncast(gradient)))
    if not others:
        return first
    reason = several_places(gradient)
    if isinstance(first, KernelGradient):
        kernels = tuple(other for other in others if isinstance(other, KernelGradient))
        same = all(kernel.inputs == first.inputs for kernel in kernels)
        if same and len(kernels) == len(others):
            return dataclasses.replace(first, others=kernels)
    elif isinstance(first, BiasGradient):
        biases = tuple(other for other in others if isinstance(other, BiasGradient))
        if len(biases) == len(others):
            return dataclasses.replace(first, others=biases, otherwise=reason)
    return reason


def _match_term(
    gradients: GradientGraph, variable: Any, gradient: Any
) -> KernelGradient | BiasGradient | str:
    """What a variable is to a dense layer in one of the places where it is used."""
    if producer(gradient).control_inputs:
        return WAITS
    kernel = match_kernel(gradients, gradient, variable.shape)
    if isinstance(kernel, KernelGradient) or variable.shape.rank == 0:
        return kernel
    bias = match_bias(gradients, gradient, variable.shape)
    if bias is not None and bias.output_gradient.op.type in BATCHED:
        # A sum of products may also be what is left of a kernel's gradient.
        return dataclasses.replace(bias, otherwise=kernel)
    return bias or kernel


def _bias_of(
    gradients: GradientGraph, kernel: KernelGradient, biases: dict[int, BiasGradient]
) -> tuple[int, BiasGradient] | None:
    """The bias that is added to the kernel's product."""
    for index, bias in biases.items():
        if is_bias_of(gradients, bias, kernel):
            return index, bias
    return None


def _bias_device_reason(bias: Any, kernel: Any) -> str | None:
    """The op updates a layer's kernel and bias on one device."""
    own, other = place_of(bias), place_of(kernel)
    return None if own == other else f"its device is {own}, that of its layer's kernel is {other}"


def _reread_reason(graph: Any, variable: Any, gradients: GradientGraph) -> str | None:
    """A chain can't be ordered against reads that wait for its gradients themselves."""
    readers = reach.handle(graph, variable).consumers()
    if any(op in gradients.live for op in readers):
        return "it is read again in the backward pass (recomputation)"
    return None


def _not_fusable(call: Call, declined: dict[int, str]) -> str:
    lines = [f'  "{call.variables[index].name}": {why}' for index, why in sorted(declined.items())]
    return (
        'backend="fused" was asked for, but these variables can\'t be fused:\n'
        + "\n".join(lines)
        + f"\nReceived: {len(declined)} of {len(call.variables)} variables not fusable."
    )


def _summary(
    chain: Sequence[DenseLayer], input_gradient: bool, forward: bool, names: Sequence[str]
) -> PlannedChain:
    return PlannedChain(
        layers=tuple(
            PlannedLayer(
                kernel=names[layer.kernel],
                bias=None if layer.bias is None else names[layer.bias],
                activation=layer.activation.kind if layer.activation is not None else "linear",
            )
            for layer in chain
        ),
        input_gradient=input_gradient,
        forward=forward,
    )
