"""`splitop.SplitStep`: a model in two parts, trained part by part, each with one function call."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from splitop._src import backend as backends
from splitop._src.errors import SplitError, StashError
from splitop._src.forward_pass import ForwardPass, Origins
from splitop._src.function import function
from splitop._src.joint_step import (
    JointStep,
    Options,
    Part,
    cross,
    options_of_second,
    plan_joint_step,
    plan_second_step,
)
from splitop._src.loss_scaling import loss_scale, rescaled
from splitop._src.optimizers import adapter_for
from splitop._src.part_checks import (
    RECOMPUTE,
    STASH,
    check_disjoint,
    check_forward,
    check_optimizers,
    dense_gradient,
)
from splitop._src.parts import (
    call_part,
    check_no_mask,
    on_host_of_part,
    penalties_of,
    seed_dtype,
    total,
    variables_of,
)
from splitop._src.planner import Plan, check_sparse
from splitop._src.replicas import check_one_replica
from splitop._src.second_run import SecondRun, Traced
from splitop._src.validate import check_iv, check_variables


class FirstStep(NamedTuple):
    """What a step of the first part gives.

    Attributes:
        loss: As the loss function has it, with the first part's penalties.
        seed: dL/dIV from before the step, in the structure of IV.
    """

    loss: tf.Tensor
    seed: Any


class SplitStep:
    """Trains a model that is cut at an intermediate vector, part by part.

        step = splitop.SplitStep(second, first, loss, first_optimizer=..., second_optimizer=...)

        iv = step.forward_second(x)
        loss, seed = step.train_first(iv, labels)
        step.train_second(seed)

        loss = step.step(x, labels)  # the same, in one function

    `forward_second` keeps what `train_second` needs, on the device where it is, so that the second
    part's forward pass runs once: with one dropout mask, and statistics that move once.
    `train_second` uses it up. The next `forward_second` replaces what was not used.

    The parts' variables are those that they have in the first call: to freeze some of them later,
    make another SplitStep with the same optimizers. One replica: not under a tf.distribute strategy
    of several.
    """

    def __init__(
        self,
        second_part: Callable[[Any], Any],
        first_part: Callable[[Any], Any],
        loss: Callable[[Any, Any], Any],
        *,
        first_optimizer: Any,
        second_optimizer: Any,
        first_vars: Sequence[Any] | None = None,
        second_vars: Sequence[Any] | None = None,
        forward: str = STASH,
        backend: str | None = None,
        check_numerics: bool = False,
        sparse: str = "exact",
        skip_nonfinite: bool = False,
        reduce_retracing: bool = True,
    ):
        """Builds nothing yet: that is done in the first call.

        Args:
            second_part: From x to iv: a Keras model or layer, which is called with training=True,
                or another callable. iv is a float tensor or a nested structure of them.
            first_part: From iv to a prediction; likewise.
            loss: `loss(y, prediction)`: a float tensor; if it is no scalar, its mean is the loss.
                Penalties that a part has as `losses`, as Keras layers do, are added.
            first_optimizer: keras.optimizers.Optimizer or tf.compat.v1.train.Optimizer.
            second_optimizer: The same for the second part; another object.
            first_vars: The first part's variables; None: its `trainable_variables`.
            second_vars: The second part's variables; None: its `trainable_variables`.
            forward: "stash": keep what the backward pass needs. "recompute": keep x and what can't
                be computed twice, random numbers above all, and run the forward pass again, with
                the weights as they are then.
            backend: See `splitop.plan`.
            check_numerics: Whether NaN or Inf in the seed is an error in `train_second`.
            sparse: See `splitop.plan`.
            skip_nonfinite: See `splitop.plan`.
            reduce_retracing: Whether batches of several shapes share a function, as tf.function
                has it. False: each shape has its own, and no rounding depends on which shape came
                first.

        Raises:
            SplitError: Not an optimizer; one for both parts; an unknown `forward`, `backend` or
                `sparse`.
        """
        check_optimizers(first_optimizer, second_optimizer)
        for optimizer in (first_optimizer, second_optimizer):
            adapter_for(optimizer)
        check_forward(forward)
        check_sparse(sparse)
        backends.resolve(backend)
        self._second_part, self._first_part, self._loss = second_part, first_part, loss
        self._optimizers = first_optimizer, second_optimizer
        self._given_vars = first_vars, second_vars
        self._recompute = forward == RECOMPUTE
        self._options = Options(backend, sparse, skip_nonfinite, check_numerics)
        self._runs: list[SecondRun] = []
        shared = {"reduce_retracing": reduce_retracing}
        self._forward = function(self._build_forward, autograph=False, **shared)
        self._one = function(self._build_first, **shared)
        self._both = function(self._build_both, **shared)
        self._pending: ForwardPass | None = None
        self._origins = Origins()
        self._first_plan: Plan | None = None
        self._second_plan: Plan | None = None

    @property
    def first_plan(self) -> Plan | None:
        """What trains the first part; None before its first step."""
        return self._first_plan

    @property
    def second_plan(self) -> Plan | None:
        """What trains the second part; None before its first forward pass."""
        return self._second_plan

    def forward_second(self, x: Any) -> Any:
        """Runs the second part and keeps what `train_second` needs.

        Args:
            x: What the second part takes: a tensor, or a nested structure of them.

        Returns:
            iv, in the second part's structure.

        Raises:
            SplitError: Called inside of a tf.function; or something can't be kept.
            CutError: iv is no float tensor.
        """
        check_one_replica("a SplitStep")
        _check_eager("forward_second")
        self.forget()
        with on_host_of_part(self._second_part):
            # So is what the function returns there: IV crosses once.
            number, flat = self._forward(tf.nest.map_structure(_as_tensor, x))
        run = self._runs[int(number)]
        self._pending = ForwardPass(run, self._origins.new(flat), [each.shape for each in flat])
        return tf.nest.pack_sequence_as(run.iv, flat)

    def train_first(self, iv: Any, y: Any) -> FirstStep:
        """One step of the first part.

        Args:
            iv: What `forward_second` has returned, or something else of its shapes and dtypes.
            y: What the loss function takes.

        Returns:
            The loss, and the seed for `train_second`: of the dtype of iv, or of float32 where that
            is of 16 bits; without a loss scale.

        Raises:
            CutError: The loss does not depend on iv.
        """
        check_one_replica("a SplitStep")
        _check_eager("train_first")
        iv = tf.nest.map_structure(tf.convert_to_tensor, iv)
        loss, seed = self._one(iv, y)
        origin = self._origins.of(tf.nest.flatten(iv))
        self._origins.add(tf.nest.flatten(seed), origin)
        if self._pending is not None and origin == self._pending.origin:
            self._pending.seed = seed
        return FirstStep(loss, seed)

    def train_second(self, seed: Any = None) -> None:
        """One step of the second part, from its last forward pass, which is used up.

        Args:
            seed: dL/dIV, in the structure of iv; None: the one that `train_first` has returned for
                the iv of the last forward pass.

        Raises:
            StashError: There was no forward pass since the last step, the weights have moved since,
                or the seed is the one of another forward pass.
            SeedError: The seed does not fit iv. The forward pass is kept then.
        """
        _check_eager("train_second")
        pending = self._pending
        if pending is None:
            raise StashError(
                "train_second needs the forward pass of its batch: call forward_second before each "
                "train_second, which uses it up. Received: no forward pass since the last step."
            )
        seeds = pending.seeds(seed, self._origins, self._options.check_numerics)
        try:
            pending.run.step(seeds)
            self._pending = None  # The step itself has released it.
        except tf.errors.InvalidArgumentError as error:
            raise _named(error) from error
        finally:
            self.forget()

    def step(self, x: Any, y: Any) -> tf.Tensor:
        """One step of both parts, in one function; forgets the last forward pass.

        Returns:
            The loss.

        Raises:
            CutError: iv does not cut the model in two.
        """
        check_one_replica("a SplitStep")
        self.forget()
        return self._both(tf.nest.map_structure(_as_tensor, x), y)

    def forget(self) -> None:
        """Releases what the last forward pass has kept, if it is still there."""
        if self._pending is not None:
            self._pending.run.forget()
            self._pending = None

    def _build_forward(self, x: Any) -> Any:
        specs = tf.nest.map_structure(tf.type_spec_from_value, x)
        with tf.init_scope():
            run = SecondRun(self._trace_second, specs, self._recompute)
        self._second_plan = run.plan
        self._runs.append(run)
        flat = tf.nest.flatten(x, expand_composites=True)
        return tf.constant(len(self._runs) - 1), run.forward(flat)

    # AutoGraph converts what calls the user's code, and nothing else.

    def _trace_second(self, x: Any) -> Traced:
        iv = call_part(self._second_part, x)
        return self._trace_second_step(iv, penalties_of(self._second_part))

    def _build_first(self, iv: Any, y: Any) -> tuple[Any, Any]:
        crossed = cross(iv)
        loss = self._loss_of(crossed, y)
        return loss, self._train_first(iv, crossed, loss)

    def _build_both(self, x: Any, y: Any) -> Any:
        iv = call_part(self._second_part, x)
        penalties = penalties_of(self._second_part)
        crossed = cross(iv)
        loss = self._loss_of(crossed, y)
        self._train_both([*tf.nest.flatten(iv), *penalties], tf.nest.flatten(crossed), loss)
        return loss

    def _loss_of(self, iv: Any, y: Any) -> Any:
        loss = tf.reduce_mean(self._loss(y, call_part(self._first_part, iv)))
        return total(loss, penalties_of(self._first_part))

    @tf.autograph.experimental.do_not_convert
    def _trace_second_step(self, iv: Any, penalties: Sequence[Any]) -> Traced:
        """Builds the second part's step, on placeholders for the seeds."""
        graph = tf.compat.v1.get_default_graph()
        check_no_mask(iv, "call SplitStep.step, or use splitop.keras.SplitModel")
        iv = cross(iv)  # An input may be a part of it.
        ivs = check_iv(iv, graph)
        seeds = [tf.compat.v1.placeholder(seed_dtype(t), t.shape, "seed") for t in ivs]
        forward_end = len(graph.get_operations())
        second = self._second()
        scale = loss_scale(second.optimizer)
        scaled_seeds = [
            tf.cast(rescaled(seed, None, scale), each.dtype)
            for seed, each in zip(seeds, ivs, strict=True)
        ]
        ones = [rescaled(tf.ones_like(penalty), None, scale) for penalty in penalties]
        options = options_of_second(self._options, Part(self._optimizers[0], ()), second)
        plan = plan_second_step(
            [*ivs, *penalties],
            [*scaled_seeds, *ones],
            second,
            options,
            "SplitStep",
            alone=self._recompute,
        )
        plan.apply()
        variables = check_variables(second.variables, graph)
        return Traced(iv, tuple(seeds), variables, plan, forward_end)

    @tf.autograph.experimental.do_not_convert
    def _train_first(self, iv: Any, crossed: Any, loss: Any) -> Any:
        """Trains the first part; returns the seed."""
        ivs, flat = tf.nest.flatten(iv), tf.nest.flatten(crossed)
        step = plan_joint_step(loss, ivs, flat, self._first(), None, self._options, "SplitStep")
        self._check_seeds(step, flat, loss)
        step.apply()
        self._first_plan = step.first
        return tf.nest.pack_sequence_as(
            iv, [rescaled(tf.cast(s, seed_dtype(s)), step.scale, None) for s in step.seeds]
        )

    @tf.autograph.experimental.do_not_convert
    def _train_both(self, outputs: Sequence[Any], crossed: Sequence[Any], loss: Any) -> None:
        """Trains both parts.

        Args:
            outputs: What the second part gives, flat: IV, and its penalties.
            crossed: IV as the first part has it.
            loss: The loss without the second part's penalties.
        """
        graph = tf.compat.v1.get_default_graph()
        penalties = cross(outputs[len(crossed) :])
        check_iv(list(crossed), graph)
        first, second = self._first(), self._second()
        check_disjoint(first.variables, second.variables)
        step = plan_joint_step(
            total(loss, penalties),
            outputs,
            [*crossed, *penalties],
            first,
            second,
            self._options,
            "SplitStep",
        )
        self._check_seeds(step, crossed, loss)
        step.apply()
        self._first_plan, self._second_plan = step.first, step.second

    def _first(self) -> Part:
        variables = variables_of(self._first_part, self._given_vars[0], "first")
        return Part(self._optimizers[0], variables)

    def _second(self) -> Part:
        variables = variables_of(self._second_part, self._given_vars[1], "second")
        return Part(self._optimizers[1], variables)

    @staticmethod
    def _check_seeds(step: JointStep, crossed: Sequence[Any], loss: Any) -> None:
        for seed, iv in zip(step.seeds, crossed, strict=False):
            dense_gradient(seed, iv, loss)


def _check_eager(name: str) -> None:
    if not tf.executing_eagerly():
        raise SplitError(
            f"{name} is a function call of its own; in a tf.function call SplitStep.step, or "
            "splitop.minimize for each part. Received: a graph that is being built."
        )


def _as_tensor(value: Any) -> Any:
    return value if tf.is_tensor(value) else tf.convert_to_tensor(value)


def _named(error: tf.errors.InvalidArgumentError) -> Exception:
    """The error of an operation, as one of ours if it is."""
    found = re.search(r"splitop: StashError: ([^\]\n]*)", error.message)
    return error if found is None else StashError(found[1])
