"""One batch of a SplitModel, inside of a tf.function."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from splitop._src.errors import SplitError
from splitop._src.joint_step import Part, cross, plan_joint_step
from splitop._src.names import variable_name
from splitop._src.parts import call_part
from splitop._src.split_model import on_replicas
from splitop._src.split_model.chunked import ChunkedSecond
from splitop._src.validate import current_graph

CALLER = "keras.SplitModel"  # for messages

_logger = logging.getLogger("splitop")


@dataclasses.dataclass(frozen=True, eq=False)
class SecondForward:
    """What the second part gives.

    Attributes:
        iv: IV, a tensor or a nested structure of tensors.
        losses: What the part adds to the loss itself: regularisers, add_loss.
    """

    iv: Any
    losses: Sequence[tf.Tensor]

    @property
    def tensors(self) -> list[Any]:
        """All that the seeded backward pass starts from."""
        return [*tf.nest.flatten(self.iv), *self.losses]


@dataclasses.dataclass(frozen=True, eq=False)
class FirstForward:
    """What the first part and the loss give.

    Attributes:
        crossed: What they work on: see `cross`, for each of `SecondForward.tensors`.
        y_pred: The predictions.
        loss: The loss, with all that both parts add to it.
    """

    crossed: list[Any]
    y_pred: Any
    loss: tf.Tensor


def train(
    model: Any, x: Any, y: Any, sample_weight: Any, train_first: bool, train_second: bool
) -> dict[str, Any]:
    """Adds a training step to the graph; returns its logs."""
    training = model._compiled()
    size = training.config["micro_batch_size"]
    chunked = None if size is None else ChunkedSecond(model.second_part, x, size)
    below = chunked or forward_second(model, x)
    above = forward_first(model, below, x, y, sample_weight)
    _count_loss(model, above.loss, x)
    second = part(model, "second") if train_second else None
    plan_second = None
    if chunked is not None and second is not None:
        plan_second = functools.partial(chunked.plan, second=second)
    step = plan_joint_step(
        above.loss,
        below.tensors,
        above.crossed,
        part(model, "first") if train_first else None,
        second,
        training.options,
        CALLER,
        plan_second,
    )
    step.apply()
    training.record(step)
    _logger.info("%s: %s", model.name, model.path)
    logs = model.compute_metrics(x, y, above.y_pred, sample_weight=sample_weight)
    norm = on_replicas.norm_of_all(step.seed_norm(len(tf.nest.flatten(below.iv))))
    return {**logs, "seed_norm": training.count_seed(norm)}


def forward_second(model: Any, x: Any) -> SecondForward:
    """From the input to IV, in training mode."""
    iv = call_part(model.second_part, x)
    return SecondForward(iv, model.second_part.losses)


def forward_first(
    model: Any, below: SecondForward | ChunkedSecond, x: Any, y: Any, sample_weight: Any
) -> FirstForward:
    """From IV to the loss, in training mode."""
    iv, losses = cross(below.iv), cross(below.losses)
    y_pred = call_part(model.first_part, iv)
    with model._with_losses([*losses, *model.first_part.losses]):
        loss = model._compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
        )
    return FirstForward([*tf.nest.flatten(iv), *losses], y_pred, loss)


def part(model: Any, which: str) -> Part | None:
    """The "first" or "second" part as it trains; None if it is frozen.

    Raises:
        SplitError: It has no optimizer.
    """
    variables = getattr(model, f"{which}_part").trainable_variables
    if not variables:
        return None
    optimizer = getattr(model, f"{which}_optimizer")
    if optimizer is None:
        raise SplitError(
            f"the {which} part has trainable variables, but no optimizer: pass {which}_optimizer "
            f"to compile, or freeze the part before: `model.{which}_part.trainable = False`. "
            f"Received: {', '.join(variable_name(variable) for variable in variables)}."
        )
    return Part(optimizer, variables)


def check_context(model: Any) -> None:
    """Checks that a batch can be built here.

    Raises:
        SplitError: There is no graph, or several replicas that can't train the model as it is
            compiled.
    """
    on_replicas.check_model(model)
    current_graph(CALLER)


def build(model: Any, x: Any) -> None:
    """Creates the variables that have been left for the first batch.

    Raises:
        SplitError: There is nothing to train.
    """
    if not (model.second_part.built and model.first_part.built):
        model(tf.nest.map_structure(lambda each: keras.KerasTensor(each.shape, each.dtype.name), x))
    if part(model, "first") is None and part(model, "second") is None:
        raise SplitError(
            "there is nothing to train, as both parts are frozen: set `trainable = True`, and "
            "compile again. Received: no trainable variables."
        )
    build_optimizers(model)


def build_optimizers(model: Any) -> None:
    """Creates the slots of the parts that are built."""
    with tf.init_scope():
        for optimizer, own in parts(model):
            if own.built and own.trainable_variables and not optimizer.built:
                with keras.name_scope(optimizer.name, caller=optimizer):
                    optimizer.build(own.trainable_variables)


def parts(model: Any) -> list[tuple[Any, Any]]:
    """The optimizers that there are, each with its part."""
    pairs = (
        (model.first_optimizer, model.first_part),
        (model.second_optimizer, model.second_part),
    )
    return [(optimizer, own) for optimizer, own in pairs if optimizer is not None]


def _count_loss(model: Any, loss: tf.Tensor, x: Any) -> None:
    rows = tf.shape(next(each for each in tf.nest.flatten(x) if each is not None))[0]
    model._loss_tracker.update_state(on_replicas.own_loss(loss), sample_weight=rows)
