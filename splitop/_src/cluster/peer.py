"""The second part's host, as the first part sees it: is it there, and can it run the ops?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from splitop._src import addresses, library
from splitop._src.cluster import notices
from splitop._src.cluster.session import ClusterSession
from splitop._src.cluster.spec import FIRST, SECOND, Spec, device_of
from splitop._src.errors import ClusterError

_PAUSE = 0.1
_SERVE = "splitop.cluster.Cluster(...).serve()"
_GONE = (tf.errors.AbortedError, tf.errors.DeadlineExceededError, tf.errors.UnavailableError)
_NOT_REGISTERED = "Op type not registered 'Splitop>"


def wait_for(spec: Spec, timeout: float) -> None:
    """Waits until something listens at the second part's address.

    TensorFlow itself would wait for ever.

    Args:
        spec: The cluster.
        timeout: Seconds.

    Raises:
        ClusterError: Nothing does in time.
    """
    end = time.monotonic() + timeout
    while True:
        left = end - time.monotonic()
        try:
            addresses.knock(spec.addresses[SECOND], max(left, _PAUSE))
            return
        except OSError as error:
            if left <= _PAUSE:
                raise ClusterError(
                    f'the host of the second part must be at "{spec.addresses[SECOND]}", with '
                    f"{_SERVE} running there. Received: no answer in {timeout:g} seconds ({error})."
                ) from None
        time.sleep(_PAUSE)


def listens(spec: Spec) -> bool:
    """Whether something listens at the second part's address; waits a second at most."""
    return addresses.listens(spec.addresses[SECOND])


def check_versions(spec: Spec, timeout: float) -> None:
    """Compares the versions of the second part's host with those of this one.

    Raises:
        ClusterError: They are not the same, or it does not say in time.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            found = run_there(spec, timeout, notices.shown_versions).decode()
            break
        except (tf.errors.FailedPreconditionError, tf.errors.NotFoundError):
            # The server is there a moment before `serve` says what it is.
            if time.monotonic() > end:
                raise ClusterError(
                    f"{_where(spec)} must run {_SERVE}. Received: a TensorFlow server that does "
                    "not say its version of splitop."
                ) from None
        time.sleep(_PAUSE)
    if found != notices.versions():
        raise ClusterError(
            f"{_where(spec)} must have the versions that this one has, {notices.versions()}. "
            f"Received: {found}."
        )


def check_ops(spec: Spec, timeout: float) -> None:
    """Has the second part's host run one of the fused ops.

    Raises:
        ClusterError: It can't, or does not answer in time.
    """
    try:
        run_there(spec, timeout, _one_of_the_ops)
    except tf.errors.NotFoundError as error:
        if _NOT_REGISTERED not in error.message:
            raise
        raise ClusterError(
            f"{_where(spec)} must have splitop's ops loaded: start it with "
            f"{_SERVE}; if it is, see what `python -m splitop doctor` "
            f"says there. Received: {error.message.splitlines()[-1]}"
        ) from None


def run_there(spec: Spec, timeout: float, build: Callable[[], Any]) -> Any:
    """Runs what a function adds to a graph on the second part's host alone.

    Returns:
        What it adds, as a NumPy value.

    Raises:
        ClusterError: It does not answer in time.
    """
    config = tf.compat.v1.ConfigProto(device_filters=[device_of(SECOND)])
    return run_once(spec, f"grpc://{spec.addresses[SECOND]}", with_timeout(config, timeout), build)


def check_way_back(spec: Spec, timeout: float, target: str) -> None:
    """Has the second part's host fetch a number from the first part's.

    Args:
        spec: The cluster.
        timeout: Seconds.
        target: The address of this process's server.

    Raises:
        ClusterError: It does not get it in time.
    """

    def build() -> Any:
        with tf.device(device_of(FIRST)):
            number = tf.random.uniform([])  # No constant, which TensorFlow would copy.
        with tf.device(device_of(SECOND)):
            return number + 1.0

    run_once(spec, target, with_timeout(None, timeout), build)


def run_once(spec: Spec, target: str, config: Any, build: Callable[[], Any]) -> Any:
    """Runs what a function adds to a graph, in a session of its own.

    Returns:
        What it adds, as a NumPy value.

    Raises:
        ClusterError: The other host does not answer in time.
    """
    try:
        with tf.Graph().as_default():
            fetched = build()
            with ClusterSession(target, None, config, lambda: listens(spec)) as session:
                return session.run(fetched)
    except _GONE as error:
        reason = error.message.splitlines()[-1]
        raise ClusterError(
            f"{_where(spec)} must take part in the cluster, with the same addresses, and reach "
            f'"{spec.addresses[FIRST]}". Received: no answer ({reason}).'
        ) from None


def with_timeout(config: Any | None, timeout: float) -> Any:
    """A copy of a ConfigProto, in which a run ends after so many seconds unless it says when."""
    result = tf.compat.v1.ConfigProto()
    if config is not None:
        result.CopyFrom(config)
    if not result.operation_timeout_in_ms:
        result.operation_timeout_in_ms = max(1, int(timeout * 1000))
    return result


def _where(spec: Spec) -> str:
    return f'the host of the second part at "{spec.addresses[SECOND]}"'


def _one_of_the_ops() -> Any:
    with tf.device(device_of(SECOND)):
        numbers = tf.zeros([1])
        if library.reason() is not None:
            return tf.identity(numbers)  # The reference path needs no ops.
        return library.load().splitop_squared_norms(tensors=[numbers])
