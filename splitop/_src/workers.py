"""The worker processes of a tf.distribute.MultiWorkerMirroredStrategy.

A worker that dies is noticed by TensorFlow: the operations in which the others wait for it fail,
as soon as its connections break, its heartbeats stay out, or the strategy's time-out is over. No
process can go on after that, and the errors do not say so in a way that a user can act on.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from splitop._src.addresses import listens
from splitop._src.errors import WorkerError

# What these mean of a collective operation: another worker does not answer, or not in time, or it
# is there again, but is another process.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
)
_OF_WORKERS = re.compile(r"Collective (ops|has)|CoordinationService|coordination service")
_TASK = re.compile(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)")
_NODE = re.compile(r"^\{\{.*?\}\} ")


def are_several(strategy: Any) -> bool:
    """Whether a strategy has workers in processes of their own."""
    multi_worker = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return multi_worker and strategy.extended._in_multi_worker_mode()


def saves(strategy: Any) -> bool:
    """Whether this process is the one that writes checkpoints."""
    return bool(strategy.extended.should_checkpoint)


def values_of_all(strategy: Any, value: int) -> list[int]:
    """What each worker gives, in the same order to all; they wait for each other."""
    gathered = strategy.gather(tf.constant([value], tf.int64), axis=0)
    return [int(each) for each in gathered.numpy()]


@contextlib.contextmanager
def loss_is_named(strategy: Any) -> Iterator[None]:
    """Has the loss of another worker be a WorkerError.

    Args:
        strategy: The strategy of what runs inside.

    Raises:
        WorkerError: Another worker has died, or does not answer in time.
    """
    try:
        yield
    except _LOST as error:
        if not (are_several(strategy) and _OF_WORKERS.search(error.message)):
            raise
        raise WorkerError(_message(strategy, error)) from error


def others(resolver: Any) -> dict[tuple[str, int], str]:
    """The other workers, and their addresses."""
    spec = resolver.cluster_spec()
    return {
        (job, index): spec.task_address(job, index)
        for job in spec.jobs
        for index in spec.task_indices(job)
        if (job, index) != (resolver.task_type, resolver.task_id)
    }


def unreachable(tasks: dict[tuple[str, int], str]) -> list[tuple[str, int]]:
    """The workers at whose addresses no process listens."""
    return [task for task, address in tasks.items() if not listens(address)]


def in_words(tasks: dict[tuple[str, int], str]) -> str:
    """Workers, for a message."""
    return " and ".join(f'"{job}:{index}" at {at}' for (job, index), at in tasks.items())


def reason(error: tf.errors.OpError) -> str:
    """TensorFlow's words for what has happened, without those for where it was."""
    lines = [line.strip() for line in error.message.splitlines()]
    first = next((line for line in lines if _OF_WORKERS.search(line)), lines[0])
    return f"{type(error).__name__}: {_NODE.sub('', first)}"


def _message(strategy: Any, error: tf.errors.OpError) -> str:
    resolver = strategy.cluster_resolver
    known = others(resolver)
    lost = {task: known[task] for task in _lost(error.message, known)}
    return (
        f"{in_words(lost) or 'another worker'} does not answer any more, and a "
        "MultiWorkerMirroredStrategy can't go on without it. End this process "
        f'("{resolver.task_type}:{resolver.task_id}") too, look for the cause in the other one\'s '
        "log, and restart all workers: with splitop.keras.SplitCheckpoint they go on from the last "
        f"checkpoint. {_limit(strategy)} Received: {reason(error)}"
    )


def _limit(strategy: Any) -> str:
    seconds = strategy.extended._communication_options.timeout_seconds
    if seconds:
        return f"Workers wait for each other for {seconds:g} seconds (timeout_seconds)."
    return (
        "Workers wait for each other as long as TensorFlow gets heartbeats: "
        "splitop.multi_worker_strategy(timeout_seconds=...) sets a limit."
    )


def _lost(message: str, known: dict[tuple[str, int], str]) -> list[tuple[str, int]]:
    """The workers that are lost, as far as it can be told.

    TensorFlow also names workers that have only passed on that another one is lost, and a worker
    that has been told of it may have ended.
    """
    found = dict.fromkeys((job, int(index)) for job, index in _TASK.findall(message))
    named = [task for task in found if task in known]
    absent = unreachable(known)
    return [task for task in named if task in absent] or [*named, *absent]
