"""The adapters of the Keras 3 optimizers that have a fused rule.

Keras rounds a Python number to float32 where it goes through tf.cast, and once, to the
variable's dtype, where it meets a tensor. Each adapter does as its optimizer does: `_cast`
or `_constant`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src.errors import SplitError
from splitop._src.optimizers import rules
from splitop._src.optimizers.base import no_rule_reason, tf_variable
from splitop._src.optimizers.keras import KerasAdapter
from splitop._src.optimizers.loss_scale import LossScaleAdapter
from splitop._src.rowwise_adagrad import RowwiseAdagrad


def _cast(value: Any, like: tf.Tensor) -> tf.Tensor:
    return tf.cast(value, like.dtype)


def _constant(value: float, like: tf.Tensor) -> tf.Tensor:
    return keras.ops.convert_to_tensor(value, like.dtype)


def _step(optimizer: Any, dtype: tf.DType) -> tf.Tensor:
    """Number of the step to come, from 1."""
    return tf.cast(tf.convert_to_tensor(optimizer.iterations) + 1, dtype)


class SGDAdapter(KerasAdapter):
    """keras.optimizers.SGD: m holds steps, not gradients."""

    fused_rule = rules.SGD
    linear_in_slices = True

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        if optimizer.momentum != 0:
            self.fused_rule, self.slot_lists = rules.MOMENTUM, ("momentums",)

    def updates_all_rows(self, variable: Any) -> bool:
        return self._optimizer.momentum != 0 or self.decayed(variable)

    def _hyper(self, lr: tf.Tensor) -> Sequence[tf.Tensor]:
        if self._optimizer.momentum == 0:
            return [lr]
        momentum = _cast(self._optimizer.momentum, lr)
        if self._optimizer.nesterov:
            return [momentum, -lr, momentum, -lr]
        return [momentum, -lr, tf.ones_like(lr), tf.zeros_like(lr)]


class AdamAdapter(KerasAdapter):
    """keras.optimizers.Adam and AdamW, which differ in the default weight decay only."""

    fused_rule = rules.ADAM
    slot_lists: tuple[str, ...] = ("_momentums", "_velocities")

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        if optimizer.amsgrad:
            self.fused_rule = rules.AMSGRAD
            self.slot_lists = (*self.slot_lists, "_velocity_hats")

    def _hyper(self, lr: tf.Tensor) -> Sequence[tf.Tensor]:
        optimizer = self._optimizer
        step = _step(optimizer, lr.dtype)
        beta1_power = tf.pow(_cast(optimizer.beta_1, lr), step)
        beta2_power = tf.pow(_cast(optimizer.beta_2, lr), step)
        return [
            lr * tf.sqrt(1 - beta2_power) / (1 - beta1_power),
            _constant(1 - optimizer.beta_1, lr),
            _constant(1 - optimizer.beta_2, lr),
            _constant(optimizer.epsilon, lr),
        ]


class AdagradAdapter(KerasAdapter):
    """keras.optimizers.Adagrad."""

    fused_rule = rules.ADAGRAD
    slot_lists = ("_accumulators",)

    def updates_all_rows(self, variable: Any) -> bool:
        return self.decayed(variable)

    def _hyper(self, lr: tf.Tensor) -> Sequence[tf.Tensor]:
        return [lr, _constant(self._optimizer.epsilon, lr)]


class RMSpropAdapter(KerasAdapter):
    """keras.optimizers.RMSprop, plain or centered, with or without momentum."""

    fused_rule = rules.RMSPROP
    slot_lists: tuple[str, ...] = ("_velocities",)

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        if optimizer.centered:
            self.fused_rule = rules.RMSPROP_CENTERED
            self.slot_lists = (*self.slot_lists, "_average_gradients")
        if optimizer.momentum > 0:
            centered = optimizer.centered
            self.fused_rule = (
                rules.RMSPROP_CENTERED_MOMENTUM if centered else rules.RMSPROP_MOMENTUM
            )
            self.slot_lists = (*self.slot_lists, "_momentums")

    def _hyper(self, lr: tf.Tensor) -> Sequence[tf.Tensor]:
        optimizer = self._optimizer
        momentum = [_constant(optimizer.momentum, lr)] if optimizer.momentum > 0 else []
        return [lr, _constant(1 - optimizer.rho, lr), _constant(optimizer.epsilon, lr), *momentum]


class AdadeltaAdapter(KerasAdapter):
    """keras.optimizers.Adadelta."""

    fused_rule = rules.ADADELTA
    slot_lists = ("_accumulated_grads", "_accumulated_delta_vars")

    def _hyper(self, lr: tf.Tensor) -> Sequence[tf.Tensor]:
        optimizer = self._optimizer
        return [lr, _constant(1 - optimizer.rho, lr), _constant(optimizer.epsilon, lr)]


class AdamaxAdapter(KerasAdapter):
    """keras.optimizers.Adamax."""

    fused_rule = rules.ADAMAX
    slot_lists = ("_m", "_u")

    def _hyper(self, lr: tf.Tensor) -> Sequence[tf.Tensor]:
        optimizer = self._optimizer
        beta1_power = tf.pow(_cast(optimizer.beta_1, lr), _step(optimizer, lr.dtype))
        return [
            lr / (1 - beta1_power),
            _constant(1 - optimizer.beta_1, lr),
            _constant(optimizer.beta_2, lr),
            _constant(optimizer.epsilon, lr),
        ]


class NadamAdapter(KerasAdapter):
    """keras.optimizers.Nadam: a step begins with the product of all u, which Keras keeps."""

    fused_rule = rules.NADAM
    slot_lists = ("_momentums", "_velocities")
    advances_more = True

    def _hyper(self, lr: tf.Tensor) -> Sequence[tf.Tensor]:
        optimizer, step = self._optimizer, _step(self._optimizer, lr.dtype)
        beta1, beta2 = _cast(optimizer.beta_1, lr), _cast(optimizer.beta_2, lr)
        u = beta1 * (1 - 0.5 * tf.pow(_cast(0.96, lr), step))
        next_u = beta1 * (1 - 0.5 * tf.pow(_cast(0.96, lr), step + 1))
        product = _cast(self._product(), lr)
        return [
            lr * next_u / (1 - product * next_u),
            lr * (1 - u) / (1 - product),
            1 - beta1,
            1 - beta2,
            1 / (1 - tf.pow(beta2, step)),
            _constant(optimizer.epsilon, lr),
        ]

    def _product(self) -> tf.Tensor:
        """What Keras will assign to `_u_product` in this step, after the fused updates."""
        optimizer = self._optimizer
        product = tf_variable(optimizer._u_product).read_value()
        decay = tf.pow(_constant(0.96, product), _step(optimizer, product.dtype))
        return product * optimizer.beta_1 * (1 - 0.5 * decay)


class FtrlAdapter(KerasAdapter):
    """keras.optimizers.Ftrl."""

    fused_rule = rules.FTRL
    slot_lists = ("_accumulators", "_linears")

    def _hyper(self, lr: tf.Tensor) -> Sequence[tf.Tensor]:
        optimizer = self._optimizer
        return [
            lr,
            _constant(-optimizer.learning_rate_power, lr),
            _constant(optimizer.l1_regularization_strength, lr),
            2 * (optimizer.l2_regularization_strength + optimizer.beta / (2 * lr)),
            _constant(2 * optimizer.l2_shrinkage_regularization_strength, lr),
        ]


class LionAdapter(KerasAdapter):
    """keras.optimizers.Lion."""

    fused_rule = rules.LION
    slot_lists = ("_momentums",)
    linear_in_slices = True

    def _hyper(self, lr: tf.Tensor) -> Sequence[tf.Tensor]:
        beta1, beta2 = _cast(self._optimizer.beta_1, lr), _cast(self._optimizer.beta_2, lr)
        return [lr, beta1, 1 - beta1, beta2, 1 - beta2]


class RowwiseAdagradAdapter(KerasAdapter):
    """splitop.keras.RowwiseAdagrad, which squares the sum of a row's slices."""

    fused_rule = rules.ROWWISE_ADAGRAD
    slot_lists = ("_accumulators",)

    def updates_all_rows(self, variable: Any) -> bool:
        return self.decayed(variable)

    def adds_up_slices(self) -> bool:
        return True

    def _hyper(self, lr: tf.Tensor) -> Sequence[tf.Tensor]:
        return [lr, _constant(self._optimizer.epsilon, lr)]


class UnfusedAdapter(KerasAdapter):
    """All other Keras optimizers, the user's own included."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self.fused_rule = no_rule_reason(optimizer, _ADAPTERS)


_ADAPTERS: dict[type, type[KerasAdapter]] = {
    keras.optimizers.SGD: SGDAdapter,
    keras.optimizers.Adam: AdamAdapter,
    keras.optimizers.AdamW: AdamAdapter,
    keras.optimizers.Adagrad: AdagradAdapter,
    keras.optimizers.RMSprop: RMSpropAdapter,
    keras.optimizers.Adadelta: AdadeltaAdapter,
    keras.optimizers.Adamax: AdamaxAdapter,
    keras.optimizers.Nadam: NadamAdapter,
    keras.optimizers.Ftrl: FtrlAdapter,
    keras.optimizers.Lion: LionAdapter,
    RowwiseAdagrad: RowwiseAdagradAdapter,
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
    if type(optimizer) is keras.optimizers.LossScaleOptimizer:
        return LossScaleAdapter(optimizer, keras_adapter(optimizer.inner_optimizer))
    return _ADAPTERS.get(type(optimizer), UnfusedAdapter)(optimizer)
