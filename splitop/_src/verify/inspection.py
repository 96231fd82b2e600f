"""Looks at a split model's graph before anything runs: who trains what, and which pitfalls it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src.cut import check_cut
from splitop._src.errors import SplitError
from splitop._src.graph import reach
from splitop._src.names import tensor_name
from splitop._src.validate import Trainable, check_iv, check_variables
from splitop._src.verify import randomness, state_pitfalls
from splitop._src.verify.report import ERROR, NOTE, WARNING, Finding
from splitop._src.verify.rounding import step_error
from splitop._src.verify.split import Forward, Split, belongs_to_second
from splitop._src.verify.stop import CannotRun

PATH = "path round the cut"


@dataclasses.dataclass(frozen=True, eq=False)
class Inspection:
    """What the graph tells.

    Attributes:
        findings: The pitfalls seen.
        cut: Names of the intermediate vectors.
        first: Positions, among the first part's variables, of those to be trained.
        second: The same for the second part.
        names: Names of all trained variables, the second part's first.
        error: See `rounding.step_error`.
        can_run: Whether steps can be compared.
    """

    findings: tuple[Finding, ...]
    cut: tuple[str, ...]
    first: tuple[int, ...] = ()
    second: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    error: float = 0.0
    can_run: bool = False


def split_of(
    forward: Forward,
    first: Sequence[Any],
    second: Sequence[Any],
    keeps_penalties: bool,
    graph: Any,
) -> Split:
    """The split model in the graph that is being built."""
    ivs = check_iv(forward.iv, graph)
    of_first, of_second = check_variables(first, graph), check_variables(second, graph)
    of_second_part = [
        belongs_to_second(graph, penalty, of_first, of_second) for penalty in forward.penalties
    ]
    pairs = list(zip(forward.penalties, of_second_part, strict=True))
    return Split(
        ivs=ivs,
        loss=forward.loss,
        first=of_first,
        second=of_second,
        first_penalties=tuple(penalty for penalty, own in pairs if not own),
        second_penalties=tuple(penalty for penalty, own in pairs if own),
        keeps_penalties=keeps_penalties,
    )


def inspect(
    forward: Forward,
    first: Sequence[Any],
    second: Sequence[Any],
    *,
    keeps_penalties: bool,
    trainable: Sequence[Any],
    fed: Sequence[Any] = (),
    ops: Sequence[Any] | None = None,
) -> Inspection:
    """Looks at a forward pass in the graph that is being built.

    Args:
        forward: The forward pass.
        first: The first part's variables.
        second: The second part's variables.
        keeps_penalties: Whether the second part's step minimizes its own penalties.
        trainable: All trainable variables of the graph.
        fed: Tensors whose values are given.
        ops: The operations that the forward pass runs; None: those that its tensors need.
    """
    graph = tf.compat.v1.get_default_graph()
    findings: list[Finding] = []
    cut = tuple(tensor_name(iv) for iv in tf.nest.flatten(forward.iv))
    try:
        return _inspect(
            graph, findings, cut, forward, first, second, keeps_penalties, trainable, fed, ops
        )
    except CannotRun as stop:
        findings.append(stop.finding)
    return Inspection(tuple(findings), cut)


def _inspect(
    graph: Any,
    findings: list[Finding],
    cut: tuple[str, ...],
    forward: Forward,
    first: Sequence[Any],
    second: Sequence[Any],
    keeps_penalties: bool,
    trainable: Sequence[Any],
    fed: Sequence[Any],
    ops: Sequence[Any] | None,
) -> Inspection:
    _check_loss(forward.loss)
    wanted = [*tf.nest.flatten(forward.iv), forward.loss, *forward.penalties]
    if any(not isinstance(tensor, tf.Tensor) for tensor in wanted):
        raise CannotRun("cut", ", ".join(cut), "iv and the loss must be tensors.", "Pass tensors.")
    running = list(ops or reach.ancestors(wanted, stop=fed))
    state_pitfalls.check_sources(graph, running)
    shared = {id(_value(item)) for item in second} & {id(_value(item)) for item in first}
    first_own = [item for item in first if id(_value(item)) not in shared]
    findings += _shared(first, shared)
    try:
        split = split_of(forward, first_own, second, keeps_penalties, graph)
        check_cut(graph, forward.loss, split.ivs, [], [])
    except SplitError as error:
        advice = "Nothing else was looked at: change that first."
        raise CannotRun(_kind(error), ", ".join(cut), str(error), advice) from error
    findings += _paths_round(graph, split)
    findings += _lost_penalties(graph, split)
    findings += _neither(graph, split, trainable)
    findings += randomness.findings(graph, split.ivs)
    findings += state_pitfalls.moved_state(graph, running, split.ivs)
    findings += _loss_kind(forward.loss)
    try:
        reached, more = _reached(graph, split)
    except LookupError as error:
        raise CannotRun(
            "no gradient",
            tensor_name(forward.loss),
            f"TensorFlow has no gradient for an operation on the way: {error}",
            "Move the cut to above this operation, or replace it.",
        ) from error
    findings += more
    kept = [reached[id(item)] for item in split.variables]
    in_second = kept[: len(split.second)]
    in_first = kept[len(split.second) :]
    if not any(in_first) or not any(in_second):
        part = "first" if not any(in_first) else "second"
        raise CannotRun(
            "no gradient", f"the {part} part", "No gradient reaches any of its variables.",
            "There is nothing to train: see the other findings for where the gradient stops.",
        )  # fmt: skip
    positions = [index for index, item in enumerate(first) if id(_value(item)) not in shared]
    return Inspection(
        findings=tuple(findings),
        cut=cut,
        first=tuple(at for at, keep in zip(positions, in_first, strict=True) if keep),
        second=tuple(at for at, keep in enumerate(in_second) if keep),
        names=tuple(i.name for i, keep in zip(split.variables, kept, strict=True) if keep),
        error=step_error(graph.get_operations()),
        can_run=True,
    )


def _kind(error: SplitError) -> str:
    return "variable list" if "var_list" in str(error) else "cut"


def _value(item: Any) -> Any:
    return item if isinstance(item, tf.Variable) else getattr(item, "value", item)


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, tf.Tensor) or not loss.dtype.is_floating:
        raise CannotRun(
            "loss", tensor_name(loss), "The loss must be a float tensor.",
            "Return a tensor of a floating dtype.",
        )  # fmt: skip


def _shared(first: Sequence[Any], shared: set[int]) -> list[Finding]:
    return [
        Finding(
            ERROR,
            "shared variable",
            tensor_name(item),
            "Both parts have it, so that each part's step gives it a part of its gradient only, "
            "and two optimizers update it. Here it is trained with the second part.",
            "Give each part a variable of its own, or move the cut so that one part has all of "
            "its uses.",
        )  # fmt: skip
        for item in first
        if id(_value(item)) in shared
    ]


def _paths_round(graph: Any, split: Split) -> list[Finding]:
    found = []
    for firsts, seconds, item in [
        *(((), (item,), item) for item in split.second),
        *(((item,), (), item) for item in split.first),
    ]:
        try:
            check_cut(graph, split.loss, split.ivs, firsts, seconds)
        except SplitError as error:
            advice = "Move the cut, or make what goes round it a part of iv."
            found.append(Finding(ERROR, PATH, item.name, str(error), advice))
    return found


def _lost_penalties(graph: Any, split: Split) -> list[Finding]:
    found = []
    for penalty in split.second_penalties:
        walk = reach.ancestors([penalty], crosses=reach.passes_gradient)
        names = [
            item.name
            for item in split.second
            if any(op in walk for op in reach.handle(graph, item.variable).consumers())
        ]
        if split.keeps_penalties:
            found.append(
                Finding(
                    NOTE,
                    "regularisation",
                    ", ".join(names),
                    f"The second part's step adds its own penalty {tensor_name(penalty)} to the "
                    "gradient by the seed.",
                    "Nothing: training does the same as long as it adds all penalties.",
                )  # fmt: skip
            )
            continue
        found.append(
            Finding(
                ERROR,
                "lost regularisation",
                ", ".join(names),
                f"The penalty {tensor_name(penalty)} of the second part is no part of the seed, so "
                "that a step by the seed alone loses it.",
                "Train the second part with splitop.minimize(optimizer, [iv, *second.losses], "
                "variables, [seed, *ones]), or with splitop.keras.SplitModel, and verify with "
                "second_penalties=True.",
            )  # fmt: skip
        )
    return found


def _neither(graph: Any, split: Split, trainable: Sequence[Any]) -> list[Finding]:
    of_parts = {id(item.variable) for item in split.variables}
    total = [split.joint_total()]
    walk = reach.ancestors(total, crosses=reach.passes_gradient)
    found = []
    for variable in trainable:
        if id(_value(variable)) in of_parts:
            continue
        if any(op in walk for op in reach.handle(graph, _value(variable)).consumers()):
            found.append(
                Finding(
                    WARNING,
                    "variable of neither part",
                    tensor_name(variable),
                    "It is trainable and has a gradient, but no part trains it.",
                    "Add it to first_vars or second_vars, or set trainable=False if it is meant "
                    "to stay as it is.",
                )  # fmt: skip
            )
    return found


def _reached(graph: Any, split: Split) -> tuple[dict[int, bool], list[Finding]]:
    """Which variables have a gradient in the model in one piece, and findings about the others."""
    total = split.joint_total()
    gradients = tf.gradients(total, [item.variable for item in split.variables])
    reached = {
        id(item): gradient is not None
        for item, gradient in zip(split.variables, gradients, strict=True)
    }
    found = [
        Finding(ERROR, "no gradient", item.name, *_why_none(graph, item, total))
        for item in split.variables
        if not reached[id(item)]
    ]
    seeds = tf.gradients(split.first_total(), list(split.ivs))
    for iv, seed in zip(split.ivs, seeds, strict=True):
        if seed is None:
            found.append(
                Finding(
                    ERROR,
                    "no seed",
                    tensor_name(iv),
                    f'No gradient flows from the loss "{tensor_name(split.loss)}" to it: '
                    + _blocked([iv], total),
                    "Remove what blocks the gradient between iv and the loss, or take this tensor "
                    "out of iv. Here its seed is taken to be zero.",
                )  # fmt: skip
            )
    ys = [*split.ivs, *(split.second_penalties if split.keeps_penalties else ())]
    by_seed = tf.gradients(ys, [item.variable for item in split.second], seeds_like(ys))
    for item, gradient in zip(split.second, by_seed, strict=True):
        if gradient is None and reached[id(item)]:
            found.append(
                Finding(
                    ERROR,
                    "no gradient by the seed",
                    item.name,
                    "In one piece the model trains it, but iv is not computed from it.",
                    "Train it with the first part, or make what is computed from it a part of iv.",
                )  # fmt: skip
            )
    return reached, found


def seeds_like(ys: Sequence[Any]) -> list[Any]:
    """A seed of ones for each tensor."""
    return [tf.ones_like(y) for y in ys]


def _why_none(graph: Any, item: Trainable, total: Any) -> tuple[str, str]:
    handle = reach.handle(graph, item.variable)
    return (
        "The loss has no gradient for it: " + _blocked([handle], total),
        "Take it out of the list, or remove what blocks its gradient. No gradient is not a zero "
        "gradient: an optimizer's averages stand still.",
    )


def _blocked(sources: Sequence[Any], target: Any) -> str:
    block = reach.blocking_op(sources, target)
    if block is None:
        return "nothing that the loss is computed from uses it."
    outputs = ", ".join(tensor.dtype.name for tensor in block.outputs)
    return f'{block.type} "{block.name}" ({outputs}) lets none through.'


def _loss_kind(loss: Any) -> list[Finding]:
    if loss.shape.rank != 0:
        return [
            Finding(
                WARNING,
                "mean against sum",
                tensor_name(loss),
                f"The loss has the shape {loss.shape}: what is differentiated is its sum, which "
                "grows with the batch.",
                "Reduce it to a scalar, by tf.reduce_mean if the learning rate is not to depend on "
                "the batch size.",
            )  # fmt: skip
        ]
    op = loss.op
    while len([i for i in op.inputs if i.dtype.is_floating]) == 1 and op.outputs[0].shape.rank == 0:
        if op.type == "Sum" and op.inputs[0].shape.rank:
            return [
                Finding(
                    NOTE,
                    "mean against sum",
                    tensor_name(loss),
                    "The loss is a sum over the batch, so that the seed grows with the batch.",
                    "If the batch is cut into micro-batches, add their seeds up; with a mean, "
                    "weight them by their sizes.",
                )  # fmt: skip
            ]
        op = next(i for i in op.inputs if i.dtype.is_floating).op
    return []
