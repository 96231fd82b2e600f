"""What the adapters of all Keras 3 optimizers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src import replicas
from splitop._src.errors import SplitError, VariableListError
from splitop._src.names import variable_name
from splitop._src.optimizers.accumulation import Accumulation
from splitop._src.optimizers.base import (
    GradientOptions,
    OptimizerAdapter,
    check_in_reach,
    creating_slots,
    increment,
    run_if,
    storage_reason,
    tf_variable,
)
from splitop._src.optimizers.rules import UpdateRule

# Keras' names of the ways to clip, and those of GradientOptions.
_CLIPS = (("clipnorm", "norm"), ("global_clipnorm", "global_norm"), ("clipvalue", "value"))


class KerasAdapter(OptimizerAdapter):
    """Any Keras optimizer; the subclasses add what a fused rule needs.

    Attributes:
        fused_rule: The op's rule, or the reason why there is none for this class of optimizer.
        slot_lists: Names of the optimizer's lists of slots, in the rule's order.
        linear_in_slices: Whether the update is linear in the gradient. Keras never adds up the
            slices of a row beforehand, and squares each by itself.
        advances_more: Whether a step advances more than the iterations, the variables and
            their slots.
    """

    fused_rule: UpdateRule | str
    slot_lists: tuple[str, ...] = ()
    linear_in_slices = False
    advances_more = False

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer

    def rule(self) -> UpdateRule | str:
        if isinstance(self.fused_rule, str):
            return self.fused_rule
        return replicas.strategy_reason() or self.fused_rule

    def gradient_options(self) -> GradientOptions:
        optimizer = self._optimizer
        loss_scale = None
        if optimizer.loss_scale_factor is not None:

            def loss_scale() -> tf.Tensor:
                return tf.constant(optimizer.loss_scale_factor, tf.float32)

        for option, clip in _CLIPS:
            bound = getattr(optimizer, option)
            if bound and bound > 0:
                return GradientOptions(clip, float(bound), loss_scale)
        return GradientOptions(loss_scale=loss_scale)

    def accumulation(self) -> Accumulation | None:
        steps = self._optimizer.gradient_accumulation_steps
        return Accumulation(steps, self._is_due, self._accumulator) if steps else None

    def _is_due(self) -> tf.Tensor:
        optimizer = self._optimizer
        taken = tf_variable(optimizer._iterations).read_value() + 1
        return tf.equal(taken % optimizer.gradient_accumulation_steps, 0)

    def _accumulator(self, variable: Any) -> tf.Variable:
        optimizer = self._optimizer
        index = optimizer._get_variable_index(tf_variable(variable))
        return tf_variable(optimizer._accumulated_gradients[index])

    def declines(self, variable: Any) -> str | None:
        reason = storage_reason(tf_variable(variable))
        if reason is None and variable.constraint is not None:
            reason = "has a constraint"
        if reason is None and self.replaces(variable):
            reason = "is overwritten with its gradient (overwrite_with_gradient=True)"
        return reason

    def replaces(self, variable: Any) -> bool:
        return self._optimizer._overwrite_variable_with_gradient(variable)

    def prepare(self, variables: Sequence[Any]) -> None:
        optimizer = self._optimizer
        self._check_accumulation()
        self._check_conditions()
        self._check_known(variables)
        state = [tf_variable(v) for v in optimizer.variables]
        for check in (check_in_reach, replicas.check_in_scope):
            check(state, f"optimizer '{optimizer.name}'")
        if optimizer.built or not self._needs_slots():
            return
        cure = "call optimizer.build(variables) before"
        with (
            creating_slots(optimizer.name, cure),
            tf.init_scope(),
            keras.name_scope(optimizer.name, caller=optimizer),
        ):
            try:
                optimizer.build(list(variables))
            except ValueError:
                optimizer.built = False  # Keras says so before it creates the slots.
                raise

    def _needs_slots(self) -> bool:
        """Whether they must be there before the optimizer's own step, which creates them too."""
        return not isinstance(self.rule(), str)

    def _check_accumulation(self) -> None:
        accumulation = self.accumulation()
        if accumulation is not None and _equality_is_identity():
            raise SplitError(
                f"optimizer '{self._optimizer.name}' accumulates gradients, with which Keras never "
                "updates a variable in a TF1 graph: use a tf.function, outside of any tf.Graph. "
                f"Received: gradient_accumulation_steps={accumulation.steps}"
            )

    def _check_conditions(self) -> None:
        """Some replicas can't wait for the others inside of a condition, as Keras has them do."""
        optimizer = self._optimizer
        for option in ("gradient_accumulation_steps", "ema_overwrite_frequency"):
            value = getattr(optimizer, option)
            if value and replicas.replicas() is not None:
                raise SplitError(
                    f"optimizer '{optimizer.name}' has {option}, which Keras does not support on "
                    f"several replicas of a tf.distribute strategy. Received: {option}={value}"
                )

    def _check_known(self, variables: Sequence[Any]) -> None:
        optimizer = self._optimizer
        known = optimizer._trainable_variables_indices
        unknown = [v for v in variables if optimizer._var_key(tf_variable(v)) not in known]
        if optimizer.built and known and unknown:
            names = ", ".join(variable_name(v) for v in unknown)
            raise VariableListError(
                f"optimizer '{optimizer.name}' was built without these variables, and a Keras "
                "optimizer never takes new ones. Give each part an optimizer of its own, or build "
                "this one for all variables before its first use: "
                f"optimizer.build(first_vars + second_vars). Received: {names}"
            )

    def slots(self, variable: Any) -> tuple[tf.Variable, ...]:
        optimizer = self._optimizer
        index = optimizer._get_variable_index(tf_variable(variable))
        return tuple(tf_variable(getattr(optimizer, name)[index]) for name in self.slot_lists)

    def existing_slots(self, variable: Any) -> tuple[tf.Variable, ...]:
        optimizer = self._optimizer
        known = optimizer._trainable_variables_indices if optimizer.built else ()
        if optimizer._var_key(tf_variable(variable)) not in known:
            return ()
        slots = self.slots(variable)
        return (*slots, self._accumulator(variable)) if self.accumulation() else slots

    def decayed(self, variable: Any) -> bool:
        # Keras matches the names to exclude with those of the tf.Variables.
        return self._optimizer.weight_decay is not None and self._optimizer._use_weight_decay(
            tf_variable(variable)
        )

    def updates_all_rows(self, variable: Any) -> bool:
        return True  # Keras adds the slices to a dense slot.

    def adds_up_slices(self) -> bool:
        # Multiplied by the global factor, they become a dense gradient.
        return self.linear_in_slices or self.gradient_options().clip == "global_norm"

    def hyper(self, dtype: tf.DType) -> tf.Tensor:
        optimizer = self._optimizer
        with tf.name_scope(optimizer.name):
            # tf.cast as in Keras: a Python number is rounded to float32 on its way.
            lr = tf.cast(optimizer._get_current_learning_rate(), dtype)
            decay = tf.zeros([], dtype)
            if optimizer.weight_decay is not None:
                decay = tf.cast(optimizer.weight_decay, dtype) * lr
            return tf.stack([decay, *self._hyper(lr)], name="hyper")

    def _hyper(self, lr: tf.Tensor) -> Sequence[tf.Tensor]:
        """The rule's hyperparameters after `decay`: scalars of the dtype of `lr`."""
        raise NotImplementedError(self.rule())

    def finish(
        self,
        fused: Sequence[tf.Operation],
        declined: Sequence[tuple[Any, Any]],
        global_step: Any | None,
        condition: tf.Tensor | None = None,
    ) -> tf.Operation:
        operations = list(fused)
        if declined or self.advances_more or self._optimizer.use_ema:
            operations += self._run(fused, declined, condition)
        else:
            with tf.control_dependencies(fused):
                operations.append(increment(self._optimizer._iterations, condition))
        if global_step is not None:
            with tf.control_dependencies(operations):
                operations.append(increment(global_step, condition))
        return tf.group(*operations)

    def _run(
        self,
        fused: Sequence[tf.Operation],
        declined: Sequence[tuple[Any, Any]],
        condition: tf.Tensor | None = None,
    ) -> Sequence[Any]:
        """Runs Keras' part of the step; returns what is there only after it."""

        def own_step() -> None:
            self._own_step(fused, declined)

        graph = tf.compat.v1.get_default_graph()
        if getattr(graph, "_add_control_dependencies", False):
            # A tf.function runs all updates in the order of the program; so these reads are last.
            run_if(condition, own_step)
            written = [variable for _, variable in declined]
            if self._optimizer.use_ema:
                written += self._optimizer._trainable_variables
            return [tf_variable(variable).read_value() for variable in written]

        if tf.distribute.has_strategy():
            raise SplitError(
                f"optimizer '{self._optimizer.name}' can't end the step in a TF1 graph under a "
                "tf.distribute strategy: use a tf.function, or another optimizer. Received: "
                f"a step that is not fused as a whole ({len(declined)} variables are declined)"
            )

        # Keras relies on that order, which a TF1 graph doesn't keep: give it a tf.function.
        @tf.function(autograph=False)
        def run() -> tf.Tensor:
            run_if(condition, own_step)
            return tf.constant(True)

        with tf.control_dependencies(None):
            run.get_concrete_function()  # Slots that it creates must not wait for a step.
        # TensorFlow inlines it, and then starts what needs none of its arguments: weight decay,
        # before the gradients are there. It drops control inputs that are arguments: a group.
        ready = tf.group(*fused, *(gradient for gradient, _ in declined))
        with tf.control_dependencies([ready]):
            return [run().op]

    def _own_step(self, fused: Sequence[tf.Operation], declined: Sequence[tuple[Any, Any]]) -> None:
        """All that Keras does in a step, but for the fused updates, which are there already."""
        optimizer = self._optimizer
        if fused and all(self.replaces(variable) for _, variable in declined):
            # With nothing left to update, apply_gradients would leave out what comes after it.
            gradients, variables = [g for g, _ in declined], [v for _, v in declined]
            optimizer._overwrite_variables_directly_with_gradients(gradients, variables)
            self._advance()
        else:
            optimizer.apply_gradients(declined)
        if optimizer.use_ema and optimizer.ema_overwrite_frequency and _equality_is_identity():
            self._overwrite_with_averages([variable for _, variable in declined])

    def _advance(self) -> None:
        """What Keras does in a step besides its updates."""
        optimizer = self._optimizer
        if self.advances_more:
            due = self._is_due() if self.accumulation() else None
            run_if(due, lambda: optimizer._backend_update_step([], [], optimizer.learning_rate))
        if optimizer.use_ema:
            optimizer._update_model_variables_moving_average(optimizer._trainable_variables)
            if optimizer.ema_overwrite_frequency and not _equality_is_identity():
                self._overwrite_if_due(optimizer.iterations + 1)
        optimizer._iterations.assign_add(1)

    def _overwrite_if_due(self, iterations: Any) -> None:
        optimizer = self._optimizer
        due = tf.equal(tf.convert_to_tensor(iterations) % optimizer.ema_overwrite_frequency, 0)
        run_if(
            due,
            lambda: optimizer._overwrite_model_variables_with_average_value(
                optimizer._trainable_variables
            ),
        )

    def _overwrite_with_averages(self, declined: Sequence[Any]) -> None:
        """What Keras has left out if it compares the iterations by `==` in a TF1 graph."""
        optimizer = self._optimizer

        def overwrite() -> None:
            optimizer._overwrite_model_variables_with_average_value(optimizer._trainable_variables)
            for variable in declined:
                if variable.constraint is not None:
                    variable.assign(variable.constraint(variable))

        iterations = tf_variable(optimizer._iterations).read_value()
        due = tf.equal(iterations % optimizer.ema_overwrite_frequency, 0)
        tf.cond(due, overwrite, lambda: None)


def _equality_is_identity() -> bool:
    """Whether `==` on tensors is Python's, as it is in a TF1 graph and in its functions."""
    return not tf.compat.v1.executing_eagerly_outside_functions()
