"""Optimizer adapters: one object that the planner asks about any optimizer."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras.optimizers import Optimizer as KerasOptimizer

from splitop._src.errors import SplitError
from splitop._src.names import describe
from splitop._src.optimizers.accumulation import Accumulation
from splitop._src.optimizers.base import GradientOptions, OptimizerAdapter
from splitop._src.optimizers.keras_adapters import keras_adapter
from splitop._src.optimizers.rules import UpdateRule
from splitop._src.optimizers.tf1_adapters import tf1_adapter

__all__ = ["Accumulation", "GradientOptions", "OptimizerAdapter", "UpdateRule", "adapter_for"]


def adapter_for(optimizer: Any) -> OptimizerAdapter:
    """The adapter of an optimizer object.

    Args:
        optimizer: A keras.optimizers.Optimizer or a tf.compat.v1.train.Optimizer. One without
            a fused rule is welcome: its adapter's `rule()` says why.

    Raises:
        SplitError: The object is neither, or Keras runs on another backend than TensorFlow.
    """
    if isinstance(optimizer, tf.compat.v1.train.Optimizer):
        return tf1_adapter(optimizer)
    if isinstance(optimizer, KerasOptimizer):
        return keras_adapter(optimizer)
    raise SplitError(
        "optimizer must be a keras.optimizers.Optimizer or a tf.compat.v1.train.Optimizer "
        f"object. Received: {describe(optimizer)}"
    )
