"""A SplitModel on the replicas of a tf.distribute strategy.

Keras divides a replica's loss by the number of replicas, and the plans add up the gradients of all.
With batches of one size on all replicas, that is the step of the joined batch.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from splitop._src.errors import SplitError
from splitop._src.names import describe
from splitop._src.replicas import in_words, replicas, wait_for_each_other
from splitop._src.workers import are_several


def check_strategy() -> None:
    """Raises SplitError in the scope of a strategy that can't train a SplitModel at all."""
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync > 1 and not wait_for_each_other():
        raise SplitError(
            "a SplitModel trains on one replica, or on CPUs under MirroredStrategy and "
            "MultiWorkerMirroredStrategy: elsewhere TensorFlow keeps no order between the "
            "exchanges of its parts. "
            f"Received: {in_words(strategy)}."
        )


def check_workers(strategy: Any, steps_per_execution: int) -> None:
    """Raises SplitError for what is compiled that workers in several processes can't do."""
    if are_several(strategy) and steps_per_execution != 1:
        raise SplitError(
            "several workers train one batch at a time, as TensorFlow's exchanges between "
            "processes do not work in a loop: compile with steps_per_execution=1. "
            f"Received: steps_per_execution={steps_per_execution!r}."
        )


def check_graph() -> None:
    """Raises SplitError where several replicas would build their steps eagerly."""
    if tf.executing_eagerly() and replicas() is not None:
        raise SplitError(
            "several replicas train a SplitModel in a graph: compile it with run_eagerly=False. "
            "Received: run_eagerly=True."
        )


def check_model(model: Any) -> None:
    """Raises SplitError for what is compiled that several replicas can't do together."""
    if replicas() is None:
        return
    config = model._compiled().config
    if config["micro_batch_size"] is not None:
        raise SplitError(
            "on several replicas the second part's batch is in one piece: compile with "
            f"micro_batch_size=None. Received: micro_batch_size={config['micro_batch_size']}."
        )
    if model._frequency.batches is not None:
        raise SplitError(
            "on several replicas both parts train in every batch, as replicas can't meet inside of "
            "a tf.cond: compile with first_steps=1 and second_steps=1. Received: "
            f"first_steps={config['first_steps']}, second_steps={config['second_steps']}."
        )
    first = model.first_optimizer
    if isinstance(first, keras.optimizers.LossScaleOptimizer):
        raise SplitError(
            "on several replicas the first part's optimizer can't have a dynamic loss scale, which "
            "each replica would lower by its own seed: use loss_scale_factor, mixed_bfloat16, or "
            f"auto_scale_loss=False. Received: first_optimizer={describe(first)}."
        )


def check_one(model: Any, method: str) -> None:
    """Raises SplitError for a method that works on one replica only, in a model of several."""
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync > 1:
        raise SplitError(
            f"{method} works on one replica: create the model outside of the tf.distribute "
            f"strategy. Received: {in_words(strategy)}."
        )


def own_loss(loss: tf.Tensor) -> tf.Tensor:
    """The mean over this replica's rows, of a loss that Keras has divided."""
    together = replicas()
    return loss if together is None else loss * together.count


def norm_of_all(norm: tf.Tensor) -> tf.Tensor:
    """The l2 norm of the seeds of all replicas, from that of this one's: a float32 scalar."""
    together = replicas()
    if together is None:
        return norm
    return tf.sqrt(together.all_reduce([tf.square(norm)])[0])


def own_batch(strategy: Any, iterator: Any) -> Any:
    """A batch of this process, of Keras' epoch iterator.

    Keras would add up those of all workers, as one value: TensorFlow does so with a tensor, not
    with the structure that a batch is.
    """
    _, _, batches = next(iter(iterator))
    return tf.nest.map_structure(
        lambda value: strategy.experimental_local_results(value)[0], next(batches)
    )


def logs_for_keras(logs: dict[str, Any]) -> dict[str, Any]:
    """The logs of a replica, as Keras takes means of them.

    Of several workers it does so along the first axis, which a scalar does not have.
    """
    if not are_several(tf.distribute.get_strategy()):
        return logs
    return {name: tf.expand_dims(value, 0) for name, value in logs.items()}
