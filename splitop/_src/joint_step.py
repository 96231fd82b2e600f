"""Both parts' steps in one function, from one forward pass.

    iv = second_part(x)
    crossed = cross(iv)
    loss = loss_fn(y, first_part(crossed))
    step = plan_joint_step(loss, [iv], [crossed], first, second, options, "my_step")
    step.apply()

The first part works on `crossed`, identities of IV. So a gradient with respect to `crossed` is what
flows back through the first part and nothing else: one vector may be computed from another one, and
a loss of the second part may read IV.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src.cut import check_cut
from splitop._src.errors import CutError, VariableListError
from splitop._src.graph import reach
from splitop._src.loss_scaling import (
    dynamic_scale,
    loss_scale,
    lower_if_overflown,
    norm,
    rescaled,
    scaled,
)
from splitop._src.names import describe
from splitop._src.planner import Plan, make_plan
from splitop._src.validate import Trainable, check_call, check_variables


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """A part that trains.

    Attributes:
        optimizer: Its optimizer.
        variables: Its trainable variables.
    """

    optimizer: Any
    variables: Sequence[Any]


@dataclasses.dataclass(frozen=True)
class Options:
    """How plans are made: see `splitop.plan`."""

    backend: str | None = None
    sparse: str = "exact"
    skip_nonfinite: bool = False
    check_numerics: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class JointStep:
    """A planned step of both parts, or of one of them.

    Attributes:
        first: What trains the first part; None: it does not train.
        second: What trains the second part; None: it does not train.
        seeds: dL/dIV for each tensor of IV, from before either part moves, times `scale`; None
            where no gradient flows back.
        scale: The loss scale of the backward pass through the first part, a float32 scalar, or
            None: 1.
        optimizer: The first part's, if it trains.
    """

    first: Plan | None
    second: Plan | None
    seeds: tuple[tf.Tensor | None, ...]
    scale: tf.Tensor | None
    optimizer: Any | None

    def apply(self) -> None:
        """Adds the steps to the tf.function that is being built, which runs them."""
        scale = dynamic_scale(self.optimizer)
        before = None if scale is None else scale.read_value()
        if self.first is not None:
            self.first.apply()
        if before is not None:
            lower_if_overflown(self.optimizer, before, self.seeds)
        if self.second is not None:
            self.second.apply()

    def seed_norm(self, count: int) -> tf.Tensor:
        """The l2 norm of the first `count` seeds, which are those of IV: a float32 scalar."""
        return norm(self.seeds[:count], self.scale)


def cross(iv: Any) -> Any:
    """What the first part works on, in the structure of `iv`; Keras' masks go along."""
    return tf.nest.map_structure(_cross_one, iv)


def plan_joint_step(
    loss: tf.Tensor,
    ivs: Sequence[Any],
    crossed: Sequence[Any],
    first: Part | None,
    second: Part | None,
    options: Options,
    caller: str,
    plan_second: Callable[[Sequence[tf.Tensor | None], Options], Plan] | None = None,
) -> JointStep:
    """Plans one step of the parts that train.

    Args:
        loss: The loss, computed from `crossed`.
        ivs: What the second part gives: IV, and the losses that it adds itself. Tensors that its
            variables do not reach (integers, inputs) are passed on to the first part.
        crossed: `cross` of each.
        first: The first part, or None if it does not train.
        second: The second part, or None if it does not train.
        options: How to plan.
        caller: The public function, for messages.
        plan_second: Plans the second part's step from its seeds, which its optimizer's loss scale
            multiplies, and the options; None: `plan_second_step`.

    Raises:
        CutError: IV does not separate the parts, or no gradient flows back to it.
        VariableListError: A variable can't be trained, or its gradient does not reach it.
        NotFusableError: The options ask for what can't be fused.
    """
    check_separate(loss, crossed, first, second)
    lead = first or second
    scale = None if lead is None else loss_scale(lead.optimizer)
    first_plan, seeds = _plan_first(scaled(loss, scale), crossed, first, options, caller)
    second_plan = None
    if second is not None:
        # If it trains alone, the whole backward pass has its scale.
        own_scale = scale if second is lead else loss_scale(second.optimizer)
        own_seeds = [rescaled(seed, scale, own_scale) for seed in seeds]
        own_options = options_of_second(options, first, second)
        if plan_second is None:
            second_plan = plan_second_step(ivs, own_seeds, second, own_options, caller)
        else:
            second_plan = plan_second(own_seeds, own_options)
    return JointStep(first_plan, second_plan, seeds, scale, first.optimizer if first else None)


def options_of_second(options: Options, first: Part | None, second: Part) -> Options:
    """How the second part's step is planned beside the first part's optimizer.

    A dynamic loss scale is found by backward passes that overflow. The first part's optimizer
    leaves such steps out; the seed that comes of them must not reach the second part's weights.
    """
    if first is not None and _overflows(first) and not _overflows(second):
        return dataclasses.replace(options, skip_nonfinite=True)
    return options


def _overflows(part: Part) -> bool:
    return isinstance(part.optimizer, keras.optimizers.LossScaleOptimizer)


def plan_second_step(
    ivs: Sequence[Any],
    seeds: Sequence[tf.Tensor | None],
    second: Part,
    options: Options,
    caller: str,
    alone: bool | None = None,
) -> Plan:
    """Plans the second part's step from its seeds.

    Args:
        ivs: What the second part gives.
        seeds: dL/dIV for each, times the loss scale of the part's optimizer; None: no gradient.
        second: The part.
        options: How to plan.
        caller: The public function, for messages.
        alone: Whether the forward pass is run for this step only: see `make_plan`.

    Raises:
        CutError: No gradient flows back to any of `ivs`.
        SeedError: A seed does not fit.
        VariableListError: A variable can't be trained, or IV does not reach it.
    """
    reached = _reached(second.variables, ivs)
    pairs = [
        (iv, seed)
        for iv, seed in zip(ivs, seeds, strict=True)
        if seed is not None and id(iv) in reached
    ]
    if not pairs:
        raise CutError(
            "no gradient flows back to the second part's variables: IV must be computed from them "
            "by differentiable operations (no argmax, rounding, integers or stop_gradient), and "
            f"the loss from IV. Received: {', '.join(describe(iv) for iv in ivs)}."
        )
    unused = [iv for iv, seed in zip(ivs, seeds, strict=True) if seed is None and id(iv) in reached]
    try:
        call = check_call(
            [iv for iv, _ in pairs], second.variables, [seed for _, seed in pairs], caller
        )
        plan, _ = make_plan(second.optimizer, call, alone=alone, **dataclasses.asdict(options))
    except VariableListError as error:
        if not unused:
            raise
        raise VariableListError(
            f"no gradient of the loss flows back to {', '.join(map(describe, unused))} of IV: "
            "variables that compute nothing else have to be frozen (trainable = False), or the "
            f"loss has to depend on it. Received: {error}"
        ) from None
    return plan


def check_separate(
    loss: tf.Tensor, crossed: Sequence[Any], first: Part | None, second: Part | None
) -> None:
    """Raises CutError if a variable of a part that trains is on the wrong side of `crossed`."""
    graph = tf.compat.v1.get_default_graph()
    used = reach.ancestors([loss])
    check_cut(
        graph,
        loss,
        [tensor for tensor in crossed if tensor.op in used],
        _trainables(first, graph),
        _trainables(second, graph),
    )


def gradients_of_iv(loss: tf.Tensor, crossed: Sequence[Any]) -> tuple[tf.Tensor | None, ...]:
    """dL/dIV for each tensor of `crossed`; None where no gradient flows back."""
    return _dense(tf.gradients(loss, list(crossed)))


def _plan_first(
    loss: tf.Tensor,
    crossed: Sequence[Any],
    first: Part | None,
    options: Options,
    caller: str,
) -> tuple[Plan | None, tuple[tf.Tensor | None, ...]]:
    """The first part's plan, and dL/dIV from the same gradient graph."""
    if first is None:
        return None, gradients_of_iv(loss, crossed)
    call = check_call(loss, first.variables, None, caller, f'the loss "{loss.name}"')
    plan, gradients = make_plan(first.optimizer, call, keep=crossed, **dataclasses.asdict(options))
    return plan, _dense(gradients)


def _dense(gradients: Sequence[Any]) -> tuple[tf.Tensor | None, ...]:
    # The gradient of a tf.gather from IV is IndexedSlices.
    return tuple(None if each is None else tf.convert_to_tensor(each) for each in gradients)


def _cross_one(tensor: Any) -> Any:
    if not isinstance(tensor, tf.Tensor):
        raise CutError(
            "IV must be a dense tensor, or a nested structure of dense tensors. "
            f"Received: {describe(tensor)}."
        )
    crossed = tf.identity(tensor, name="iv")
    mask = getattr(tensor, "_keras_mask", None)
    if mask is not None:
        crossed._keras_mask = mask
    return crossed


def _trainables(part: Part | None, graph: Any) -> tuple[Trainable, ...]:
    return () if part is None else check_variables(part.variables, graph)


def _reached(variables: Sequence[Any], ivs: Sequence[Any]) -> set[int]:
    """The ids of those tensors through which a gradient flows back to a variable."""
    graph = tf.compat.v1.get_default_graph()
    readers = {
        op
        for item in check_variables(variables, graph)
        for op in reach.handle(graph, item.variable).consumers()
    }
    return {
        id(iv)
        for iv in ivs
        if readers & reach.ancestors([iv], crosses=reach.passes_gradient).keys()
    }
