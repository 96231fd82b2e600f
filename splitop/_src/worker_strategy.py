"""`splitop.multi_worker_strategy`: workers that do not wait for each other for ever.

TensorFlow's own constructor waits without a limit for workers that do not come. It holds Python's
global lock meanwhile, so that nothing in the process can stop it. So the first worker, which all
others register with, starts it only when they listen; and they give up registering in time.
"""

from __future__ import annotations

import faulthandler
import math
import sys
import time
from typing import Any

import tensorflow as tf
from tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2 import CoordinatedJob
from tensorflow.python.eager import context

from splitop._src import workers
from splitop._src.errors import SplitError, WorkerError
from splitop._src.seconds import check_seconds

# Roles that take part in the training; others, such as "ps", have other strategies.
_JOBS = ("chief", "worker")
_PAUSE = 0.1


def multi_worker_strategy(timeout_seconds: float = 120.0, *, cluster_resolver: Any = None) -> Any:
    """A tf.distribute.MultiWorkerMirroredStrategy whose workers wait for each other so long.

        strategy = splitop.multi_worker_strategy(timeout_seconds=60)
        with strategy.scope():
            model = splitop.keras.SplitModel(second_part, first_part)
            model.compile(...)
        model.fit(data, callbacks=[splitop.keras.SplitCheckpoint(directory)])

    Called first of all in each worker, as TensorFlow connects them then. If a worker dies later, or
    is silent, the others get a WorkerError from the SplitModel: at once where a connection breaks,
    or else after `timeout_seconds`.

    Args:
        timeout_seconds: How long workers wait: for all of them to start, for a heartbeat, and for
            each exchange. What a worker does between two exchanges must take less: building the
            step in the first batch, a save, a callback.
        cluster_resolver: Says which workers there are, and which one this is; None: TF_CONFIG does.

    A worker that dies while the others connect has TensorFlow wait for it without an end. This call
    then ends the process, by faulthandler's timer (of which there is one: a caller's own is gone
    afterwards), after twice `timeout_seconds` and ten seconds for each worker.

    Returns:
        The strategy.

    Raises:
        SplitError: `timeout_seconds` is no positive number, this process is no worker of a cluster,
            or TensorFlow has already started.
        WorkerError: The other workers do not come in time.
    """
    seconds = check_seconds("timeout_seconds", timeout_seconds)
    resolver = cluster_resolver or tf.distribute.cluster_resolver.TFConfigClusterResolver()
    spec = resolver.cluster_spec()
    jobs = [job for job in _JOBS if job in spec.jobs]
    if resolver.task_type not in jobs:
        raise SplitError(
            "a cluster must have workers, of which this process is one: set TF_CONFIG. Received: "
            f"the cluster {spec.as_dict()}, and the task {resolver.task_type}:{resolver.task_id}."
        )
    if context.context()._context_handle is not None:
        raise SplitError(
            "multi_worker_strategy must be called before TensorFlow runs anything, as it connects "
            "the workers when it starts. Received: a process in which TensorFlow has started."
        )
    leader, *_ = tasks = [(job, index) for job in jobs for index in spec.task_indices(job)]
    if (resolver.task_type, resolver.task_id) == leader:
        others = workers.others(resolver)
        _wait_for({task: at for task, at in others.items() if task in tasks}, seconds)
    _configure(jobs, spec, leader, seconds)
    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=seconds)
    # Where a worker dies right now, TensorFlow waits for it: then this ends the process.
    limit = 2 * seconds + 10 * len(tasks)
    faulthandler.dump_traceback_later(limit, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
    except tf.errors.OpError as error:
        absent = {leader: spec.task_address(*leader)}
        raise _did_not_come(absent, seconds, workers.reason(error)) from error
    finally:
        faulthandler.cancel_dump_traceback_later()


def _wait_for(others: dict[tuple[str, int], str], seconds: float) -> None:
    """Returns when all listen, or raises WorkerError."""
    deadline = time.monotonic() + seconds
    while absent := workers.unreachable(others):
        if time.monotonic() > deadline:
            missing = {task: others[task] for task in absent}
            raise _did_not_come(missing, seconds, "no process that listens there.")
        time.sleep(_PAUSE)


def _did_not_come(absent: dict[tuple[str, int], str], seconds: float, received: str) -> WorkerError:
    return WorkerError(
        f"{workers.in_words(absent)} must have started, and know all workers, within {seconds:g} "
        "seconds (timeout_seconds): start all of them, with one cluster in TF_CONFIG, and with "
        f"ports that are open between them. Received: {received}"
    )


def _configure(jobs: list[str], spec: Any, leader: tuple[str, int], seconds: float) -> None:
    """Has TensorFlow's coordination service, which looks after the workers, know the limit."""
    limit = math.ceil(1000 * seconds)
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{leader[0]}/replica:0/task:{leader[1]}",
        cluster_register_timeout_in_ms=limit,
        heartbeat_timeout_in_ms=limit,
        shutdown_barrier_timeout_in_ms=limit,
        coordinated_jobs=[CoordinatedJob(name=job, num_tasks=spec.num_tasks(job)) for job in jobs],
    )
