"""What `SplitModel.compile` is given, and what training needs of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from splitop._src import backend as backends
from splitop._src import xla
from splitop._src.errors import SplitError
from splitop._src.joint_step import JointStep, Options
from splitop._src.names import describe
from splitop._src.part_checks import check_optimizers
from splitop._src.planner import Plan, check_sparse
from splitop._src.split_model.frequency import Frequency
from splitop._src.whole import check_whole


@dataclasses.dataclass(frozen=True)
class Plans:
    """What trains each part's variables; `str` makes two tables.

    Attributes:
        first: The first part's plan; None: it has not trained yet, or is frozen.
        second: The second part's plan; None: the same.
    """

    first: Plan | None = None
    second: Plan | None = None

    def path(self) -> str:
        """Which path trains each part, in a line."""
        return f"first part: {_path(self.first)}; second part: {_path(self.second)}"

    def __str__(self) -> str:
        """The plans' tables."""
        return f"First part\n{self.first}\n\nSecond part\n{self.second}"


def _path(plan: Plan | None) -> str:
    if plan is None:
        return "not trained"
    return f"{len(plan.fused)} of {len(plan.fused) + len(plan.declined)} variables fused"


class Training:
    """What a compiled SplitModel trains with.

    Attributes:
        config: The arguments of `compile` as they were given.
        first_optimizer: The first part's, or None.
        second_optimizer: The second part's, or None.
        options: How plans are made.
        seed_norm: The mean norm of dL/dIV over the batches of an epoch.
        plans: The plans of the last graphs that were built; None: there are none yet.
    """

    def __init__(self, config: dict[str, Any], first: Any, second: Any) -> None:
        """Checks the arguments.

        Args:
            config: All arguments of `compile`.
            first: The first part.
            second: The second part.

        Raises:
            SplitError: Any that does not fit.
        """
        self.config = config
        self.first_optimizer, self.second_optimizer = _optimizers(config, first, second)
        if config["backend"] is not None:
            backends.resolve(config["backend"])
        check_sparse(config["sparse"])
        if config["micro_batch_size"] is not None:
            check_whole(
                "micro_batch_size",
                config["micro_batch_size"],
                otherwise=", or None for the batch in one piece",
            )
        self.options = Options(config["backend"], config["sparse"], config["skip_nonfinite"])
        self.seed_norm = keras.metrics.Mean(name="seed_norm")
        self.plans: Plans | None = None

    def record(self, step: JointStep) -> None:
        """Keeps the plans of a step; of a part that does not train in it, those of another."""
        known = self.plans or Plans()
        self.plans = Plans(step.first or known.first, step.second or known.second)

    def count_seed(self, norm: tf.Tensor) -> tf.Tensor:
        """Adds the norm of a step's seed to the mean of the epoch, which it returns.

        A dynamic loss scale is found by steps that overflow and are left out: so are their seeds.
        """
        if isinstance(self.first_optimizer, keras.optimizers.LossScaleOptimizer):
            counts = tf.math.is_finite(norm)
            self.seed_norm.update_state(
                tf.where(counts, norm, 0.0), sample_weight=tf.cast(counts, tf.float32)
            )
        else:
            self.seed_norm.update_state(norm)
        return self.seed_norm.result()


def jit_choice(jit_compile: Any) -> bool | str:
    """What Keras' `compile` is asked for."""
    if jit_compile not in (True, False, "auto"):
        raise SplitError(f'jit_compile must be True, False or "auto". Received: {jit_compile!r}.')
    if jit_compile == "auto" and xla.gpu_reason() is not None:
        return False
    return jit_compile


def new_frequency(config: dict[str, Any]) -> Frequency:
    """The frequency that `compile` was asked for."""
    return Frequency(config["first_steps"], config["second_steps"])


def _optimizers(config: dict[str, Any], first: Any, second: Any) -> tuple[Any, Any]:
    given = [_optimizer(config, name) for name in ("first_optimizer", "second_optimizer")]
    if given[0] is not None:
        check_optimizers(*given)
    for name, part, own, other in (
        ("first", first, given[0], given[1]),
        ("second", second, given[1], given[0]),
    ):
        if own is None and other is not None and part.trainable_variables:
            raise SplitError(
                f"{name}_optimizer is missing, but the {name} part has trainable variables: pass "
                f"one, or freeze the part before compile: `model.{name}_part.trainable = False`. "
                f"Received: {name}_optimizer=None."
            )
    if config["auto_scale_loss"]:
        given = [_with_loss_scale(*pair) for pair in zip(given, (first, second), strict=True)]
    return given[0], given[1]


def _optimizer(config: dict[str, Any], name: str) -> Any:
    try:
        return keras.optimizers.get(config[name])
    except ValueError as error:
        raise SplitError(
            f"{name} must be a keras.optimizers.Optimizer or the name of one. "
            f"Received: {describe(config[name])}."
        ) from error


def _with_loss_scale(optimizer: Any, part: Any) -> Any:
    """What Keras' compile does for a model whose policy is mixed_float16."""
    if optimizer is None or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer
    policies = {layer.dtype_policy.name for layer in part._flatten_layers()}
    if "mixed_float16" not in policies:
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")
