"""The host of the other part: whether it is there, and can run the fused ops."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.cluster.spec import Spec, device_of
from splitop._src.errors import ClusterError

_PAUSE = 0.1
_NOT_REGISTERED = "Op type not registered 'Splitop>"


def wait_for(spec: Spec, timeout: float) -> None:
    """Waits until something listens at the other part's address.

    TensorFlow itself would wait for ever.

    Args:
        spec: The cluster.
        timeout: Seconds.

    Raises:
        ClusterError: Nothing does in time.
    """
    address = spec.addresses[spec.other]
    host, _, port = address.rpartition(":")
    end = time.monotonic() + timeout
    while True:
        left = end - time.monotonic()
        try:
            with socket.create_connection((host.strip("[]"), int(port)), max(left, _PAUSE)):
                return
        except OSError as error:
            if left <= _PAUSE:
                raise ClusterError(
                    f'the host of the {spec.other} part must be at "{address}", with '
                    f"splitop.cluster.Cluster(...).serve() running there. Received: no answer in "
                    f"{timeout:g} seconds ({error})."
                ) from None
        time.sleep(_PAUSE)


def check_with(run: Callable[[Callable[[], Any]], Any], spec: Spec) -> None:
    """Has the other part's host run one of the fused ops.

    Args:
        run: Runs what a function adds to the graph.
        spec: The cluster.

    Raises:
        ClusterError: It can't, or does not answer.
    """
    where = f'the host of the {spec.other} part at "{spec.addresses[spec.other]}"'
    try:
        run(lambda: _on_host_of(spec.other))
    except tf.errors.NotFoundError as error:
        if _NOT_REGISTERED not in error.message:
            raise
        raise ClusterError(
            f"{where} must have splitop's ops loaded: start it with "
            "splitop.cluster.Cluster(...).serve(); if it is, see what `python -m splitop doctor` "
            f"says there. Received: {error.message.splitlines()[-1]}"
        ) from None
    except (tf.errors.DeadlineExceededError, tf.errors.UnavailableError) as error:
        raise ClusterError(
            f"{where} must take part in the cluster. Received: no answer ({error.message})."
        ) from None


def _on_host_of(part: str) -> Any:
    with tf.device(device_of(part)):
        numbers = tf.zeros([1])
        if library.reason() is not None:
            return tf.identity(numbers)  # The reference path needs no ops.
        return library.load().splitop_squared_norms(tensors=[numbers])
