"""What the adapters of all Keras 3 optimizers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src.errors import SplitError, VariableListError
from splitop._src.names import variable_name
from splitop._src.optimizers.base import (
    OptimizerAdapter,
    check_in_reach,
    creating_slots,
    increment,
    storage_reason,
    strategy_reason,
    tf_variable,
)
from splitop._src.optimizers.rules import UpdateRule

# Options that change the update, and that no rule of the op has.
_UNFUSED_OPTIONS = (
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)


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
        return self._option_reason() or strategy_reason() or self.fused_rule

    def _option_reason(self) -> str | None:
        options = {name: getattr(self._optimizer, name, None) for name in _UNFUSED_OPTIONS}
        used = ", ".join(
            f"{name}={value}"
            for name, value in options.items()
            if value is not None and value is not False
        )
        if not used:
            return None
        return f"optimizer {type(self._optimizer).__name__} with {used} has no fused rule"

    def declines(self, variable: Any) -> str | None:
        reason = storage_reason(tf_variable(variable))
        if reason is None and variable.constraint is not None:
            reason = "has a constraint"
        if reason is None and self._optimizer._overwrite_variable_with_gradient(variable):
            reason = "is overwritten with its gradient (overwrite_with_gradient=True)"
        return reason

    def prepare(self, variables: Sequence[Any]) -> None:
        optimizer = self._optimizer
        self._check_accumulation()
        self._check_known(variables)
        check_in_reach(
            [tf_variable(v) for v in optimizer.variables], f"optimizer '{optimizer.name}'"
        )
        if optimizer.built or isinstance(self.rule(), str):
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

    def _check_accumulation(self) -> None:
        steps = self._optimizer.gradient_accumulation_steps
        if steps and _equality_is_identity():
            raise SplitError(
                f"optimizer '{self._optimizer.name}' accumulates gradients, with which Keras never "
                "updates a variable in a TF1 graph: use a tf.function, outside of any tf.Graph. "
                f"Received: gradient_accumulation_steps={steps}"
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
        return self.slots(variable) if optimizer._var_key(tf_variable(variable)) in known else ()

    def decayed(self, variable: Any) -> bool:
        # Keras matches the names to exclude with those of the tf.Variables.
        return self._optimizer.weight_decay is not None and self._optimizer._use_weight_decay(
            tf_variable(variable)
        )

    def updates_all_rows(self, variable: Any) -> bool:
        return True  # Keras adds the slices to a dense slot.

    def adds_up_slices(self) -> bool:
        return self.linear_in_slices

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
    ) -> tf.Operation:
        operations = list(fused)
        if declined or self.advances_more or self._optimizer.use_ema:
            operations += self._run(fused, declined)
        else:
            with tf.control_dependencies(fused):
                operations.append(increment(self._optimizer._iterations))
        if global_step is not None:
            with tf.control_dependencies(operations):
                operations.append(increment(global_step))
        return tf.group(*operations)

    def _run(
        self, fused: Sequence[tf.Operation], declined: Sequence[tuple[Any, Any]]
    ) -> Sequence[Any]:
        """Runs Keras' part of the step; returns what is there only after it."""
        graph = tf.compat.v1.get_default_graph()
        if getattr(graph, "_add_control_dependencies", False):
            # A tf.function runs all updates in the order of the program; so these reads are last.
            self._own_step(fused, declined)
            written = [variable for _, variable in declined]
            if self._optimizer.use_ema:
                written += self._optimizer._trainable_variables
            return [tf_variable(variable).read_value() for variable in written]

        # Keras relies on that order, which a TF1 graph doesn't keep: give it a tf.function.
        @tf.function(autograph=False)
        def run() -> tf.Tensor:
            self._own_step(fused, declined)
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
        replaced = [optimizer._overwrite_variable_with_gradient(v) for _, v in declined]
        if fused and all(replaced):
            # With nothing left to update, apply_gradients would leave out what comes after it.
            for gradient, variable in declined:
                variable.assign(gradient)
            optimizer._backend_apply_gradients([], [])
            optimizer._iterations.assign_add(1)
        else:
            optimizer.apply_gradients(declined)
        if optimizer.use_ema and optimizer.ema_overwrite_frequency and _equality_is_identity():
            self._overwrite_with_averages([variable for _, variable in declined])

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
