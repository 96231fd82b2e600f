"""A second part that trains later, from seeds that were stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from splitop._src.errors import SeedError, SplitError
from splitop._src.joint_step import check_separate, gradients_of_iv, plan_second_step
from splitop._src.loss_scaling import loss_scale, rescaled, scaled
from splitop._src.names import describe
from splitop._src.optimizers.base import tf_variable
from splitop._src.split_model import on_replicas, step
from splitop._src.validate import flatten_like


def reset(model: Any) -> None:
    """Has the functions be built anew, for a model that is compiled again."""
    model._seed_function = _function(model, _seeds)
    model._second_function = _function(model, _train_second)


def seed_on_batch(model: Any, x: Any, y: Any, sample_weight: Any) -> Any:
    """See `SplitModel.seed_on_batch`."""
    model._compiled()
    on_replicas.check_one(model, "seed_on_batch")
    seeds = model._seed_function(_tensors(x), _tensors(y), _tensors(sample_weight))
    return tf.nest.map_structure(lambda seed: None if seed is None else seed.numpy(), seeds)


def train_second_on_batch(model: Any, x: Any, seed: Any) -> None:
    """See `SplitModel.train_second_on_batch`."""
    model._compiled()
    on_replicas.check_one(model, "train_second_on_batch")
    model._second_function(_tensors(x), tf.nest.map_structure(_seed_tensor, seed))


def _function(model: Any, body: Callable[..., Any]) -> Any:
    def run(*args: Any) -> Any:
        return body(model, *args)

    return tf.function(run, autograph=False, reduce_retracing=True)


def _seeds(model: Any, x: Any, y: Any, sample_weight: Any) -> Any:
    step.build(model, x)
    state = [variable for variable in model.variables if not variable.trainable]
    state = [tf_variable(variable) for variable in [*state, *model.metrics_variables]]
    before = [tf.identity(variable.read_value()) for variable in state]
    below = step.forward_second(model, x)
    above = step.forward_first(model, below, x, y, sample_weight)
    check_separate(above.loss, above.crossed, *(step.part(model, p) for p in ("first", "second")))
    scale = loss_scale(model.optimizer)
    iv = tf.nest.flatten(below.iv)
    seeds = gradients_of_iv(scaled(above.loss, scale), above.crossed[: len(iv)])
    # 16 bits would lose what the scale has saved.
    unscaled = [rescaled(_wide(seed), scale, None) for seed in seeds]
    for variable, value in zip(state, before, strict=True):
        variable.assign(value)
    return tf.nest.pack_sequence_as(below.iv, unscaled)


def _train_second(model: Any, x: Any, seed: Any) -> None:
    step.build(model, x)
    second = step.part(model, "second")
    if second is None:
        raise SplitError(
            "the second part is frozen: set `trainable = True`, and compile again. Received: no "
            "trainable variables in it."
        )
    below = step.forward_second(model, x)
    scale = loss_scale(second.optimizer)
    # These have no seed: they are added to the loss as Keras adds them.
    losses = [model._aggregate_additional_loss(loss) for loss in below.losses]
    ivs, seeds = _pairs(below.iv, seed, scale)
    ones = [rescaled(tf.ones([], loss.dtype), None, scale) for loss in losses]
    options = model._compiled().options
    plan = plan_second_step([*ivs, *losses], [*seeds, *ones], second, options, step.CALLER)
    plan.apply()


def _pairs(iv: Any, seed: Any, scale: Any) -> tuple[list[Any], list[Any]]:
    """The tensors of IV and their seeds, scaled, of their dtype."""
    must = (
        "the seed must have the structure of IV, the second part's output: an array for each "
        "tensor of it."
    )
    ivs, seeds = tf.nest.flatten(iv), flatten_like(iv, seed, must, _shape)
    return ivs, [
        None if s is None else tf.cast(rescaled(s, None, scale), t.dtype)
        for t, s in zip(ivs, seeds, strict=True)
    ]


def _shape(value: Any) -> Any:
    return None if value is None else value.shape


def _wide(seed: tf.Tensor | None) -> tf.Tensor | None:
    if seed is None or seed.dtype == tf.float64:
        return seed
    return tf.cast(seed, tf.float32)


def _tensors(data: Any) -> Any:
    """Data as tensors, so that a tf.function is not built anew for each array."""
    return tf.nest.map_structure(_tensor, data)


def _tensor(value: Any) -> Any:
    if value is None or isinstance(value, tf.Tensor):
        return value
    return tf.convert_to_tensor(np.asarray(value))


def _seed_tensor(seed: Any) -> Any:
    if seed is None:
        return None
    tensor = _tensor(seed)
    if not tensor.dtype.is_floating:
        raise SeedError(
            f"a seed must be of a floating dtype. Received: {describe(np.asarray(seed))}."
        )
    return _wide(tensor)
