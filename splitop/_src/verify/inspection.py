"""Looks at a split model's graph before anything runs: who trains what, and the pitfalls."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.cut import check_cut
from splitop._src.errors import SplitError
from splitop._src.graph import reach
from splitop._src.names import tensor_name, unique_variable_names
from splitop._src.validate import check_iv, check_variables
from splitop._src.verify import cut_pitfalls, gradient_pitfalls, randomness, state_pitfalls
from splitop._src.verify.cut_pitfalls import plain
from splitop._src.verify.report import Finding
from splitop._src.verify.rounding import step_error
from splitop._src.verify.split import Forward, Split, belongs_to_second
from splitop._src.verify.stop import CannotRun


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
    known: Sequence[Any],
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
        known: All variables, for their names.
        fed: Tensors whose values are given.
        ops: The operations that the forward pass runs; None: those that its tensors need.
    """
    graph = tf.compat.v1.get_default_graph()
    findings: list[Finding] = []
    cut = tuple(tensor_name(iv) for iv in tf.nest.flatten(forward.iv))
    with _stopping(findings):
        _check_loss(forward.loss)
        wanted = [*tf.nest.flatten(forward.iv), forward.loss, *forward.penalties]
        if any(not isinstance(tensor, tf.Tensor) for tensor in wanted):
            raise CannotRun(
                "cut", ", ".join(cut), "iv and the loss must be tensors.", "Pass tensors."
            )
        running = list(ops or reach.ancestors(wanted, stop=fed))
        state_pitfalls.check_sources(graph, running)
        shared = {id(plain(item)) for item in second} & {id(plain(item)) for item in first}
        first_own = [item for item in first if id(plain(item)) not in shared]
        findings += cut_pitfalls.shared_variables(first, shared)
        try:
            split = split_of(forward, first_own, second, keeps_penalties, graph)
            check_cut(graph, forward.loss, split.ivs, [], [])
        except SplitError as error:
            advice = "Nothing else was looked at: change that first."
            raise CannotRun(_kind(error), ", ".join(cut), str(error), advice) from error
        findings += cut_pitfalls.paths_round(graph, split)
        findings += cut_pitfalls.lost_penalties(graph, split)
        findings += cut_pitfalls.of_neither_part(graph, split, trainable)
        findings += randomness.findings(graph, split.ivs)
        findings += state_pitfalls.moved_state(graph, running, split.ivs, known)
        findings += gradient_pitfalls.kind_of_loss(forward.loss)
        kept, more = _reached(graph, split)
        findings += more
        in_second, in_first = kept[: len(split.second)], kept[len(split.second) :]
        _check_trains(in_first, in_second)
        positions = [index for index, item in enumerate(first) if id(plain(item)) not in shared]
        return Inspection(
            findings=tuple(findings),
            cut=cut,
            first=tuple(at for at, keep in zip(positions, in_first, strict=True) if keep),
            second=tuple(at for at, keep in enumerate(in_second) if keep),
            names=unique_variable_names(
                [item.given for item, keep in zip(split.variables, kept, strict=True) if keep]
            ),
            error=step_error(graph.get_operations()),
            can_run=True,
        )
    return Inspection(tuple(findings), cut)


@contextlib.contextmanager
def _stopping(findings: list[Finding]) -> Iterator[None]:
    """Ends what is inside at a finding that leaves nothing else to look at."""
    try:
        yield
    except CannotRun as stop:
        findings.append(stop.finding)


def _reached(graph: Any, split: Split) -> tuple[list[bool], list[Finding]]:
    """See `gradient_pitfalls.reached`."""
    try:
        return gradient_pitfalls.reached(graph, split)
    except LookupError as error:
        raise CannotRun(
            "no gradient",
            tensor_name(split.loss),
            f"TensorFlow has no gradient for an operation on the way: {error}",
            "Move the cut to above this operation, or replace it.",
        ) from error


def _check_trains(in_first: Sequence[bool], in_second: Sequence[bool]) -> None:
    if not any(in_first) or not any(in_second):
        part = "first" if not any(in_first) else "second"
        raise CannotRun(
            "no gradient",
            f"the {part} part",
            "No gradient reaches any of its variables.",
            "There is nothing to train: see the other findings for where the gradient stops.",
        )


def _kind(error: SplitError) -> str:
    return "variable list" if "var_list" in str(error) else "cut"


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, tf.Tensor) or not loss.dtype.is_floating:
        raise CannotRun(
            "loss",
            tensor_name(loss),
            "The loss must be a float tensor.",
            "Return a tensor of a floating dtype.",
        )
