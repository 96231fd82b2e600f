"""The two-run flow: the first part trains and gives dL/dIV, then the second part trains."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from splitop._src.cut import check_cut
from splitop._src.errors import SplitError, VariableListError
from splitop._src.graph import reach
from splitop._src.graph.copy import recomputed
from splitop._src.graph.devices import on_host_of
from splitop._src.graph.handover import can_be_repeated
from splitop._src.later import KeptSeeds, added_operations, later_step
from splitop._src.names import describe
from splitop._src.part_checks import (
    RECOMPUTE,
    STASH,
    check_disjoint,
    check_forward,
    check_optimizers,
    dense_gradient,
)
from splitop._src.planner import Plan, make_plan
from splitop._src.validate import check_call, check_iv, check_variables, current_graph


@dataclasses.dataclass(frozen=True, eq=False)
class SplitOps:
    """The operations of the two-run flow.

        _, seed = session.run([ops.train_first, ops.iv_gradients], {x: ..., labels: ...})
        session.run(ops.train_second, {x: ..., ops.iv_gradients_ph: seed})

    With forward="stash":

        session.run(ops.train_first, {x: ..., labels: ...})
        session.run(ops.train_second)

    Attributes:
        train_first: One step of the first part; it does `keep`, too.
        iv_gradients: dL/dIV from before any update of the step, in the structure of `iv`.
            Fetching it alone trains nothing.
        iv_gradients_ph: Placeholders for it in the second run, in the structure of `iv`. With
            forward="stash" they need not be fed.
        train_second: One step of the second part. With forward="recompute" it needs the part's
            inputs and `iv_gradients_ph`; with "stash" it needs nothing, and uses up what was kept.
        train_both: Both steps in one run: the same result as the two runs, but for rounding.
        keep: Keeps for `train_second` what this needs of the first run, without training the first
            part. None if it needs nothing: with forward="recompute", of a part that can be
            computed twice.
        first_plan: What trains the first part's variables.
        second_plan: What trains the second part's variables in `train_second`.
    """

    train_first: tf.Operation
    iv_gradients: Any
    iv_gradients_ph: Any
    train_second: tf.Operation
    train_both: tf.Operation
    keep: tf.Operation | None
    first_plan: Plan
    second_plan: Plan


def split_minimize(
    loss: Any,
    iv: Any,
    *,
    first_optimizer: Any,
    second_optimizer: Any,
    first_vars: Sequence[Any] | None = None,
    second_vars: Sequence[Any] | None = None,
    first_scope: str = "first_part",
    second_scope: str = "second_part",
    forward: str = RECOMPUTE,
    global_step: Any | None = None,
    backend: str | None = None,
    check_numerics: bool = False,
    sparse: str = "exact",
    skip_nonfinite: bool = False,
) -> SplitOps:
    """Builds the two-run flow of a model that is cut at `iv`, in a TF1 graph.

    Run 1 trains the first part (from `iv` to `loss`) and gives dL/dIV; run 2 computes the
    second part again and trains it from that seed. Whatever is fetched together, dL/dIV is
    taken before either part moves. A value that is fed for `iv` itself reaches the first part
    only, as run 2 works on its own inputs; where that can't be had, `iv` can't be fed.

    Args:
        loss: Float tensor, computed from `iv`; if it is no scalar, its sum is the loss.
        iv: Float tensor, or a nested structure of them, none computed from another. Every
            path from the second part's variables to the loss passes through it.
        first_optimizer: keras.optimizers.Optimizer or tf.compat.v1.train.Optimizer.
        second_optimizer: The same for the second part; another object.
        first_vars: The first part's variables; None: the trainable ones under `first_scope`.
        second_vars: The second part's variables; None: the trainable ones under
            `second_scope`.
        first_scope: Name of the variable scope of the first part.
        second_scope: Name of the variable scope of the second part.
        forward: "recompute": run 2 computes the second part from its inputs again, with its weights
            as they are then; dense layers inside the fused op, which what is fed for a tensor
            in between does not reach. Random numbers, such as dropout's, elements of a data set,
            and what the forward pass or `global_step` moves are those of run 1, kept on their
            device; each run 2 takes its turn after a run 1 then. Other variables are read as they
            are.
            "stash": run 1 keeps what run 2 needs, on the device where it is, until that has run:
            run 2 computes nothing of the forward pass, and is fed nothing but what the optimizer
            needs (a learning rate), or another seed. Run 2 without a run 1 before it, or after a
            write to one of the second part's variables, is a tf.errors.InvalidArgumentError with a
            StashError, raised before anything is written. Not seen is a write to an embedding
            table.
        global_step: Variable that `train_first`, and so `train_both`, increments by one.
        backend: See `splitop.plan`.
        check_numerics: Whether NaN or Inf in the seed is an error in run 2.
        sparse: Which rows of embedding tables a step updates: see `splitop.plan`.
        skip_nonfinite: Whether a part's step with a NaN or Inf in a gradient is left out: see
            `splitop.plan`.

    Returns:
        The operations and the two plans.

    Raises:
        SplitError: Not in a TF1 graph, one optimizer for both parts, or an unknown `forward`; or
            something can't be kept for run 2 (a loop of TF1's own control flow).
        CutError: `iv` does not cut the model in two; the message names the way around it.
        VariableListError: A part has no variables, or one that its gradient does not reach.
        NotFusableError: With backend="fused", if a variable of either part can't be fused.
    """
    graph = current_graph("split_minimize")
    _check_flow(graph, forward, first_optimizer, second_optimizer)
    ivs = check_iv(iv, graph)
    _check_loss(loss, graph)
    first = check_variables(_variables(first_vars, first_scope, "first", graph), graph)
    second = check_variables(_variables(second_vars, second_scope, "second", graph), graph)
    first_given, second_given = ([item.given for item in part] for part in (first, second))
    check_disjoint(first_given, second_given)
    check_cut(graph, loss, ivs, first, second)

    call = check_call(loss, first_given, None, "split_minimize", f'the loss "{loss.name}"')
    # Seen apart from the update: fetching the gradients must not train.
    first_plan, gradients = make_plan(
        first_optimizer,
        call,
        backend=backend,
        check_numerics=check_numerics,
        sparse=sparse,
        skip_nonfinite=skip_nonfinite,
        keep=ivs,
    )
    iv_gradients = [
        dense_gradient(gradient, tensor, loss)
        for gradient, tensor in zip(gradients, ivs, strict=True)
    ]
    second_ivs = [recomputed(tensor) for tensor in ivs]
    on_first, on_second = (
        functools.partial(on_host_of, [item.variable for item in part]) for part in (first, second)
    )

    def plan_second(seeds: Sequence[Any], alone: bool | None) -> Plan:
        second_call = check_call(second_ivs, second_given, list(seeds), "split_minimize")
        plan, _ = make_plan(
            second_optimizer,
            second_call,
            backend=backend,
            check_numerics=check_numerics,
            sparse=sparse,
            skip_nonfinite=skip_nonfinite,
            alone=alone,
        )
        return plan

    with on_first():
        seeds = KeptSeeds(iv_gradients) if forward == STASH else None
    with on_second():
        placeholders = _placeholders(ivs) if seeds is None else seeds.placeholders()
    with added_operations(graph) as planned:
        second_plan = plan_second(placeholders, alone=forward == RECOMPUTE)
    both_plan = plan_second(iv_gradients, alone=None)
    train_first = first_plan.apply(global_step=global_step)
    with added_operations(graph) as applied:
        train_second = second_plan.apply()
    train_both = tf.group(train_first, both_plan.apply(), name="train_both")
    keep = None
    moving = [] if global_step is None else [reach.handle(graph, global_step)]
    for seed in iv_gradients:
        graph.prevent_feeding(seed)  # It would not reach the later run; the placeholder does.
    if seeds is not None or not can_be_repeated(second_ivs, moving):
        added = [*planned, *applied]
        with on_second():
            later = later_step(
                train_second, added, second_ivs, second, seeds=placeholders, recompute=seeds is None
            )
        train_second, keep = later.step, later.keep
        forget = [later.forget]
        if seeds is not None:
            keep = tf.group(keep, seeds.keep)
            forget.append(seeds.forget)
            # They are still there if another seed was fed.
            train_second = _and_then(train_second, [seeds.forget])
        train_first = tf.group(train_first, keep)
        train_both = _and_then(train_both, forget)
    return SplitOps(
        train_first=train_first,
        iv_gradients=tf.nest.pack_sequence_as(iv, iv_gradients),
        iv_gradients_ph=tf.nest.pack_sequence_as(iv, placeholders),
        train_second=train_second,
        train_both=train_both,
        keep=keep,
        first_plan=first_plan,
        second_plan=second_plan,
    )


def _and_then(first: tf.Operation, others: Sequence[Callable[[], tf.Operation]]) -> tf.Operation:
    with tf.control_dependencies([first]):
        return tf.group(*(add() for add in others))


def _placeholders(ivs: Sequence[Any]) -> list[Any]:
    return [
        tf.compat.v1.placeholder(tensor.dtype, tensor.shape, "iv_gradients_ph") for tensor in ivs
    ]


def _check_flow(graph: Any, forward: str, first_optimizer: Any, second_optimizer: Any) -> None:
    if graph.building_function:
        raise SplitError(
            "split_minimize builds operations for two session runs, in a tf.Graph; inside a "
            "tf.function there is one run: call splitop.minimize for each part. "
            "Received: a tf.function."
        )
    check_forward(forward)
    check_optimizers(first_optimizer, second_optimizer)


def _check_loss(loss: Any, graph: Any) -> None:
    if not isinstance(loss, tf.Tensor) or getattr(loss, "graph", None) is not graph:
        raise SplitError(f"loss must be a tensor of the current graph. Received: {describe(loss)}.")
    if not loss.dtype.is_floating:
        raise SplitError(
            f'the loss "{loss.name}" must be of a floating dtype. Received: {loss.dtype.name}.'
        )


def _variables(given: Sequence[Any] | None, scope: str, part: str, graph: Any) -> Sequence[Any]:
    if given is not None:
        return given
    key = tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES
    # TensorFlow takes a pattern; "first_part" must not match "first_part_2".
    found = graph.get_collection(key, f"{re.escape(scope)}/")
    if not found:
        scopes = sorted({variable.name.split("/")[0] for variable in graph.get_collection(key)})
        raise VariableListError(
            f'no trainable variable is under the scope "{scope}": pass {part}_scope or '
            f"{part}_vars. Received: variables under {', '.join(scopes) or 'no scope'}."
        )
    return list(found)
