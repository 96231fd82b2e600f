"""What the adapters of all tf.compat.v1.train optimizers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src import replicas
from splitop._src.optimizers.base import (
    OptimizerAdapter,
    creating_slots,
    increment,
    run_if,
    storage_reason,
    tf_variable,
)
from splitop._src.optimizers.rules import UpdateRule


class TF1Adapter(OptimizerAdapter):
    """Any TF1 optimizer; the subclasses add what a fused rule needs.

    Attributes:
        fused_rule: The op's rule, or the reason why there is none for this class of optimizer.
        slot_names: The optimizer's own names of its slots, in the rule's order.
    """

    fused_rule: UpdateRule | str
    slot_names: tuple[str, ...] = ()

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer

    def rule(self) -> UpdateRule | str:
        if isinstance(self.fused_rule, str):
            return self.fused_rule
        return replicas.strategy_reason() or self.fused_rule

    def declines(self, variable: Any) -> str | None:
        variable = tf_variable(variable)
        reason = storage_reason(variable)
        if reason is None and variable.constraint is not None:
            reason = "has a constraint"
        return reason

    def prepare(self, variables: Sequence[Any]) -> None:
        if isinstance(self.rule(), str):
            return  # apply_gradients will do all this itself.
        optimizer, name = self._optimizer, self._optimizer.get_name()

        def create(_: Any, variables: Sequence[Any]) -> None:
            with creating_slots(name, "use the optimizer in that first call"), tf.init_scope():
                optimizer._create_slots(variables)

        replicas.for_all(create, [tf_variable(v) for v in variables])
        with tf.name_scope(name):
            optimizer._prepare()

    def slots(self, variable: Any) -> tuple[tf.Variable, ...]:
        variable = tf_variable(variable)
        return tuple(self._optimizer.get_slot(variable, name) for name in self.slot_names)

    def existing_slots(self, variable: Any) -> tuple[tf.Variable, ...]:
        return tuple(slot for slot in self.slots(variable) if slot is not None)

    def decayed(self, variable: Any) -> bool:
        return False

    def updates_all_rows(self, variable: Any) -> bool:
        return False

    def adds_up_slices(self) -> bool:
        return True  # TensorFlow does so for all its optimizers.

    def hyper(self, dtype: tf.DType) -> tf.Tensor:
        with tf.name_scope(self._optimizer.get_name()):
            return tf.stack([tf.zeros([], dtype), *self._hyper(dtype)], name="hyper")

    def _hyper(self, dtype: tf.DType) -> Sequence[tf.Tensor]:
        """The rule's hyperparameters after `decay`: scalars, from what `_prepare` made."""
        raise NotImplementedError(self.rule())

    def finish(
        self,
        fused: Sequence[tf.Operation],
        declined: Sequence[tuple[Any, Any]],
        global_step: Any | None,
        condition: tf.Tensor | None = None,
    ) -> tf.Operation:
        pairs = [(gradient, tf_variable(variable)) for gradient, variable in declined]
        if global_step is not None:
            global_step = tf_variable(global_step)

        def apply() -> tf.Operation:
            return self._optimizer.apply_gradients(pairs, global_step)

        # Counters that the step advances are read by the fused ops: it goes after them.
        with tf.control_dependencies(fused):
            if pairs:
                return run_if(condition, apply)
            step = run_if(condition, lambda: self._end_step(global_step))
        tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.TRAIN_OP, step)
        return step

    def _end_step(self, global_step: Any | None) -> tf.Operation:
        """What apply_gradients does after its updates."""
        with tf.name_scope(self._optimizer.get_name()) as scope:
            step = replicas.for_all(self._advance)
            if global_step is not None:
                with tf.control_dependencies([step]):
                    step = increment(global_step)
            return tf.group(step, name=scope)

    def _advance(self, strategy: Any) -> tf.Operation:
        """What the optimizer itself does after its updates: once, or on each of the replicas."""

        def finish() -> tf.Operation:
            return self._optimizer._finish([tf.no_op()], "update")

        if strategy is None:
            return finish()
        devices = strategy.extended.non_slot_devices([])
        return strategy.extended.update_non_slot(devices, finish)
