"""Adapters of the Keras 3 optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src.errors import SplitError, VariableListError
from splitop._src.names import variable_name
from splitop._src.optimizers.base import (
    ADAM,
    MOMENTUM,
    SGD,
    OptimizerAdapter,
    UpdateRule,
    check_in_reach,
    creating_slots,
    increment,
    no_rule_reason,
    storage_reason,
    strategy_reason,
    tf_variable,
)

# Options that change the update, and that no rule of the op has.
_UNFUSED_OPTIONS = (
    "amsgrad",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "loss_scale_factor",
    "gradient_accumulation_steps",
)


class KerasAdapter(OptimizerAdapter):
    """Any Keras optimizer; the subclasses add what a fused rule needs."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer

    def rule(self) -> UpdateRule | str:
        if type(self._optimizer) not in _ADAPTERS:
            return no_rule_reason(self._optimizer, tuple(_ADAPTERS))
        return self._option_reason() or strategy_reason() or self._fused_rule()

    def _fused_rule(self) -> UpdateRule:
        raise NotImplementedError(self.rule())

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
        index = self._optimizer._get_variable_index(tf_variable(variable))
        return tuple(tf_variable(slots[index]) for slots in self._slot_lists())

    def existing_slots(self, variable: Any) -> tuple[tf.Variable, ...]:
        optimizer = self._optimizer
        known = optimizer._trainable_variables_indices if optimizer.built else ()
        return self.slots(variable) if optimizer._var_key(tf_variable(variable)) in known else ()

    def _slot_lists(self) -> Sequence[Any]:
        """The optimizer's lists of slots, in the rule's order."""
        return ()

    def decayed(self, variable: Any) -> bool:
        # Keras matches the names to exclude with those of the tf.Variables.
        return self._optimizer.weight_decay is not None and self._optimizer._use_weight_decay(
            tf_variable(variable)
        )

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
        if declined:
            operations += self._apply(fused, declined)
        else:
            with tf.control_dependencies(fused):
                operations.append(increment(self._optimizer._iterations))
        if global_step is not None:
            with tf.control_dependencies(operations):
                operations.append(increment(global_step))
        return tf.group(*operations)

    def _apply(
        self, fused: Sequence[tf.Operation], pairs: Sequence[tuple[Any, Any]]
    ) -> Sequence[Any]:
        """Runs the optimizer's own step; returns what is there only after it."""
        graph = tf.compat.v1.get_default_graph()
        if getattr(graph, "_add_control_dependencies", False):
            # A tf.function runs all updates in the order of the program; so these reads are last.
            self._optimizer.apply_gradients(pairs)
            return [tf_variable(variable).read_value() for _, variable in pairs]

        # Keras relies on that order, which a TF1 graph doesn't keep: give it a tf.function.
        @tf.function(autograph=False)
        def apply_gradients() -> tf.Tensor:
            self._optimizer.apply_gradients(pairs)
            return tf.constant(True)

        with tf.control_dependencies(fused):
            return [apply_gradients().op]


class SGDAdapter(KerasAdapter):
    """keras.optimizers.SGD: m holds steps, not gradients."""

    def _fused_rule(self) -> UpdateRule:
        return SGD if self._optimizer.momentum == 0 else MOMENTUM

    def _slot_lists(self) -> Sequence[Any]:
        return () if self._optimizer.momentum == 0 else (self._optimizer.momentums,)

    def _hyper(self, lr: tf.Tensor) -> Sequence[tf.Tensor]:
        if self._optimizer.momentum == 0:
            return [lr]
        momentum = tf.cast(self._optimizer.momentum, lr.dtype)
        minus_lr = -lr
        if self._optimizer.nesterov:
            return [momentum, minus_lr, momentum, minus_lr]
        return [momentum, minus_lr, tf.ones_like(lr), tf.zeros_like(lr)]


class AdamAdapter(KerasAdapter):
    """keras.optimizers.Adam and AdamW, which differ in the default weight decay only."""

    def _fused_rule(self) -> UpdateRule:
        return ADAM

    def _slot_lists(self) -> Sequence[Any]:
        return self._optimizer._momentums, self._optimizer._velocities

    def _hyper(self, lr: tf.Tensor) -> Sequence[tf.Tensor]:
        optimizer, dtype = self._optimizer, lr.dtype
        local_step = tf.cast(tf_variable(optimizer.iterations) + 1, dtype)
        beta1_power = tf.pow(tf.cast(optimizer.beta_1, dtype), local_step)
        beta2_power = tf.pow(tf.cast(optimizer.beta_2, dtype), local_step)
        return [
            lr * tf.sqrt(1 - beta2_power) / (1 - beta1_power),
            # Not by tf.cast: here Keras rounds Python numbers once.
            keras.ops.convert_to_tensor(1 - optimizer.beta_1, dtype),
            keras.ops.convert_to_tensor(1 - optimizer.beta_2, dtype),
            keras.ops.convert_to_tensor(optimizer.epsilon, dtype),
        ]


_ADAPTERS: dict[type, type[KerasAdapter]] = {
    keras.optimizers.SGD: SGDAdapter,
    keras.optimizers.Adam: AdamAdapter,
    keras.optimizers.AdamW: AdamAdapter,
}


def keras_adapter(optimizer: Any) -> KerasAdapter:
    """The adapter of a keras.optimizers.Optimizer.

    Raises:
        SplitError: Keras runs on another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise SplitError(
            "Keras must run on TensorFlow: set KERAS_BACKEND=tensorflow before importing it. "
            f"Received: backend={keras.backend.backend()!r}"
        )
    return _ADAPTERS.get(type(optimizer), KerasAdapter)(optimizer)
