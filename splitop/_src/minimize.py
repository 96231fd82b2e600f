"""`splitop.plan` and `splitop.minimize`: the seeded backward pass and the update, in one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src.planner import Plan, make_plan
from splitop._src.validate import ONES, check_seeded_call


@tf.autograph.experimental.do_not_convert
def plan(
    optimizer: Any,
    iv: Any,
    var_list: Sequence[Any],
    grad_ys: Any = ONES,
    *,
    backend: str | None = None,
    check_numerics: bool = False,
    sparse: str = "exact",
    skip_nonfinite: bool = False,
) -> Plan:
    """Plans a training step: what the fused op takes over, and why not the rest.

    Adds the plain gradients to the current graph (they are the fallback, and cost nothing
    where they are not used) and reads them. Nothing is trained before `Plan.apply()`.

    Under a tf.distribute strategy it belongs into the function that strategy.run is given: the step
    is that of all replicas together.

    Args:
        optimizer: A keras.optimizers.Optimizer or a tf.compat.v1.train.Optimizer; the
            object that also trains elsewhere, with its slots, schedule and counter.
        iv: The intermediate vector that the part computes: a float tensor of any shape, or a
            nested structure of them. A scalar loss is one too.
        var_list: tf.Variable or keras.Variable objects of the part, each one reached from `iv`.
        grad_ys: The seed dL/dIV: for every tensor of `iv` one of its shape and dtype. Left out:
            ones. None is ones, too, with a warning unless `iv` is a scalar, as it is what
            tf.gradients returns for an `iv` that the loss does not depend on.
        backend: "auto" fuses what it can; "fused" raises rather than leave anything out;
            "reference" fuses nothing. None: `with splitop.backend(...)`, then the environment
            variable SPLITOP_BACKEND, then "auto".
        check_numerics: Whether NaN or Inf in the seed is an error when the step runs.
        sparse: Which rows of an embedding table a step updates. "exact": those that the optimizer
            itself updates; with momentum or Adam all rows, as their averages decay in every step.
            "lazy": only those looked up, whatever the optimizer, as LazyAdam does: faster on large
            tables, and another training than the optimizer's own.
        skip_nonfinite: Whether a step with a NaN or Inf in any gradient is left out: then no bit of
            a variable or of the optimizer's state changes. A keras.optimizers.LossScaleOptimizer
            always does so.

    Returns:
        The plan; print it for a table.

    Raises:
        SplitError: Called eagerly, or outside of the replicas of a strategy; or `optimizer` or
            `backend` is unknown.
        CutError: `iv` can't be differentiated.
        SeedError: `grad_ys` does not fit `iv`. What only a run can tell (a batch size) is
            checked then, before anything is written: tf.errors.InvalidArgumentError.
        VariableListError: An entry of `var_list` is no variable, is there twice, is not
            trainable, or is not reached from `iv`.
        NotFusableError: With backend="fused", if anything can't be fused; with sparse="lazy", if
            a table can't, as there is no lazy step to fall back on.
    """
    call = check_seeded_call(iv, var_list, grad_ys, "plan")
    result, _ = make_plan(
        optimizer,
        call,
        backend=backend,
        check_numerics=check_numerics,
        sparse=sparse,
        skip_nonfinite=skip_nonfinite,
    )
    return result


@tf.autograph.experimental.do_not_convert
def minimize(
    optimizer: Any,
    iv: Any,
    var_list: Sequence[Any],
    grad_ys: Any = ONES,
    *,
    global_step: Any | None = None,
    backend: str | None = None,
    check_numerics: bool = False,
    sparse: str = "exact",
    skip_nonfinite: bool = False,
) -> tf.Operation:
    """Adds one training step of a part to the graph: backward pass from the seed, and update.

    Does what `optimizer.apply_gradients(zip(tf.gradients(iv, var_list, grad_ys), var_list))`
    does, in a tf.Graph or inside a tf.function, fused where possible.

    Args:
        optimizer: See `plan`.
        iv: See `plan`.
        var_list: See `plan`.
        grad_ys: See `plan`.
        global_step: Variable to increment by one at the end of the step, or None.
        backend: See `plan`.
        check_numerics: See `plan`.
        sparse: See `plan`.
        skip_nonfinite: See `plan`.

    Returns:
        The operation that runs the step. Inside a tf.function it runs by itself; a
        tf.function can't return operations.

    Two steps on the same variables that are fetched in one run of a TF1 session are not
    ordered, as TF1 orders nothing by itself: put the second one under
    `tf.control_dependencies([first])`, with a forward pass of its own, or run them in turn.

    Raises:
        SplitError: As `plan` does, with its subclasses.
    """
    call = check_seeded_call(iv, var_list, grad_ys, "minimize")
    result, _ = make_plan(
        optimizer,
        call,
        backend=backend,
        check_numerics=check_numerics,
        sparse=sparse,
        skip_nonfinite=skip_nonfinite,
    )
    return result.apply(global_step=global_step)
