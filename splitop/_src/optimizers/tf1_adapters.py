"""The adapters of the tf.compat.v1.train optimizers that have a fused rule.

Hyperparameters come from the tensors that the optimizer's own `_prepare` has made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from splitop._src.optimizers import rules
from splitop._src.optimizers.base import no_rule_reason
from splitop._src.optimizers.tf1 import TF1Adapter


class GradientDescentAdapter(TF1Adapter):
    """tf.compat.v1.train.GradientDescentOptimizer."""

    fused_rule = rules.SGD

    def _hyper(self, dtype: tf.DType) -> Sequence[tf.Tensor]:
        return [tf.cast(self._optimizer._learning_rate_tensor, dtype)]


class MomentumAdapter(TF1Adapter):
    """tf.compat.v1.train.MomentumOptimizer: m holds gradients, not steps."""

    fused_rule = rules.MOMENTUM
    slot_names = ("momentum",)

    def _hyper(self, dtype: tf.DType) -> Sequence[tf.Tensor]:
        lr = tf.cast(self._optimizer._learning_rate_tensor, dtype)
        momentum = tf.cast(self._optimizer._momentum_tensor, dtype)
        if self._optimizer._use_nesterov:
            slot_step, gradient_step = -(lr * momentum), -lr
        else:
            slot_step, gradient_step = -lr, tf.zeros([], dtype)
        return [momentum, tf.ones([], dtype), slot_step, gradient_step]


class AdamAdapter(TF1Adapter):
    """tf.compat.v1.train.AdamOptimizer, with the arithmetic of TensorFlow's ApplyAdam."""

    fused_rule = rules.ADAM
    slot_names = ("m", "v")

    def updates_all_rows(self, variable: Any) -> bool:
        return True

    def _hyper(self, dtype: tf.DType) -> Sequence[tf.Tensor]:
        optimizer = self._optimizer
        beta1_power, beta2_power = (tf.cast(p, dtype) for p in optimizer._get_beta_accumulators())
        lr = tf.cast(optimizer._lr_t, dtype)
        return [
            lr * tf.sqrt(1 - beta2_power) / (1 - beta1_power),
            1 - tf.cast(optimizer._beta1_t, dtype),
            1 - tf.cast(optimizer._beta2_t, dtype),
            tf.cast(optimizer._epsilon_t, dtype),
        ]


class AdagradAdapter(TF1Adapter):
    """tf.compat.v1.train.AdagradOptimizer, which has no epsilon."""

    fused_rule = rules.ADAGRAD
    slot_names = ("accumulator",)

    def _hyper(self, dtype: tf.DType) -> Sequence[tf.Tensor]:
        return [tf.cast(self._optimizer._learning_rate_tensor, dtype), tf.zeros([], dtype)]


class RMSPropAdapter(TF1Adapter):
    """tf.compat.v1.train.RMSPropOptimizer, which has a slot for the momentum even without any."""

    fused_rule = rules.RMSPROP_MOMENTUM
    slot_names: tuple[str, ...] = ("rms", "momentum")

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        if optimizer._centered:
            self.fused_rule = rules.RMSPROP_CENTERED_MOMENTUM
            self.slot_names = ("rms", "mg", "momentum")

    def _hyper(self, dtype: tf.DType) -> Sequence[tf.Tensor]:
        optimizer = self._optimizer
        return [
            tf.cast(optimizer._learning_rate_tensor, dtype),
            1 - tf.cast(optimizer._decay_tensor, dtype),
            tf.cast(optimizer._epsilon_tensor, dtype),
            tf.cast(optimizer._momentum_tensor, dtype),
        ]


class AdadeltaAdapter(TF1Adapter):
    """tf.compat.v1.train.AdadeltaOptimizer."""

    fused_rule = rules.ADADELTA
    slot_names = ("accum", "accum_update")

    def _hyper(self, dtype: tf.DType) -> Sequence[tf.Tensor]:
        optimizer = self._optimizer
        return [
            tf.cast(optimizer._lr_t, dtype),
            1 - tf.cast(optimizer._rho_t, dtype),
            tf.cast(optimizer._epsilon_t, dtype),
        ]


class FtrlAdapter(TF1Adapter):
    """tf.compat.v1.train.FtrlOptimizer: ApplyFtrl, or with shrinkage ApplyFtrlV2."""

    fused_rule = rules.FTRL
    slot_names = ("accum", "linear")

    def _hyper(self, dtype: tf.DType) -> Sequence[tf.Tensor]:
        optimizer = self._optimizer
        return [
            tf.cast(optimizer._learning_rate_tensor, dtype),
            -tf.cast(optimizer._learning_rate_power_tensor, dtype),
            tf.cast(optimizer._l1_regularization_strength_tensor, dtype),
            # Beta is in it.
            2 * tf.cast(optimizer._adjusted_l2_regularization_strength_tensor, dtype),
            2 * tf.cast(optimizer._l2_shrinkage_regularization_strength_tensor, dtype),
        ]


class UnfusedAdapter(TF1Adapter):
    """All other TF1 optimizers, the user's own included."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__(optimizer)
        self.fused_rule = no_rule_reason(optimizer, _ADAPTERS)


_ADAPTERS: dict[type, type[TF1Adapter]] = {
    tf.compat.v1.train.GradientDescentOptimizer: GradientDescentAdapter,
    tf.compat.v1.train.MomentumOptimizer: MomentumAdapter,
    tf.compat.v1.train.AdamOptimizer: AdamAdapter,
    tf.compat.v1.train.AdagradOptimizer: AdagradAdapter,
    tf.compat.v1.train.RMSPropOptimizer: RMSPropAdapter,
    tf.compat.v1.train.AdadeltaOptimizer: AdadeltaAdapter,
    tf.compat.v1.train.FtrlOptimizer: FtrlAdapter,
}


def tf1_adapter(optimizer: Any) -> TF1Adapter:
    """The adapter of a tf.compat.v1.train.Optimizer."""
    return _ADAPTERS.get(type(optimizer), UnfusedAdapter)(optimizer)
