"""A session that can be closed when the other host has gone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import tensorflow as tf


class ClusterSession(tf.compat.v1.Session):
    """A session on two hosts.

    TensorFlow's own waits in `close` for a host that has gone to come back, and so does the
    garbage collector.
    """

    def __init__(self, target: str, graph: Any, config: Any, is_there: Callable[[], bool]):
        """Opens the session.

        Args:
            target: The address of this process's server.
            graph: What tf.compat.v1.Session takes.
            config: Likewise.
            is_there: Whether something listens at the other host's address.
        """
        self._is_there = is_there
        super().__init__(target, graph, config)

    def close(self) -> None:
        """Closes the session; if the other host is not there, the own server keeps its graph."""
        if self._closed or not self._is_there():
            return
        # A host that is frozen has a port that listens, and does not answer.
        with contextlib.suppress(tf.errors.DeadlineExceededError, tf.errors.UnavailableError):
            super().close()
