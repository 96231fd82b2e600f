"""`splitop.cluster.Cluster`: the two parts on two hosts, trained by one session."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from splitop._src import library
from splitop._src.addresses import host_and_port
from splitop._src.cluster import hosts, notices, peer
from splitop._src.cluster.session import ClusterSession
from splitop._src.cluster.spec import FIRST, PARTS, SECOND, device_of, read_spec
from splitop._src.errors import ClusterError
from splitop._src.seconds import check_seconds

_POLL = 0.5
_GOODBYE = 2.0


class Cluster:
    """Two processes, each with one part of a model, in TensorFlow's own cluster runtime.

    The process of the first part builds the graph of both and runs it:

        cluster = splitop.cluster.Cluster({"first": "host1:2222", "second": "host2:2222"}, "first")
        with cluster.second_part():
            ...  # the second part's input, layers and optimizer
        with cluster.first_part():
            ...  # the first part's
        ops = splitop.split_minimize(loss, iv, ...)
        with cluster.session() as session:
            session.run(ops.train_both)
        cluster.stop()

    That of the second part only serves:

        splitop.cluster.Cluster({"first": "host1:2222", "second": "host2:2222"}, "second").serve()

    TensorFlow's servers know no passwords and no encryption: who reaches their port can run any
    program there. For private networks only.

    Attributes:
        part: The part that this process has, "first" or "second".
    """

    def __init__(
        self,
        spec: Mapping[str, Any] | None = None,
        part: str | None = None,
        *,
        timeout: float = 60.0,
        config: Any | None = None,
    ):
        """Loads the fused ops; starts nothing yet.

        Args:
            spec: "host:port" for "first" and for "second", the same in both processes. With
                `part`, too, left out: the environment variable TF_CONFIG says both.
            part: "first" or "second": the part that this process has.
            timeout: Seconds to wait for the other host, and for one run of a session to end.
            config: tf.compat.v1.ConfigProto of this host: its threads and GPUs.

        Raises:
            ClusterError: `spec` or TF_CONFIG does not say where two parts are.
        """
        self._spec = read_spec(spec, part)
        self._timeout = check_seconds("timeout", timeout, error=ClusterError)
        self._config = config
        self._server: Any | None = None
        self._connected = False
        self.part = self._spec.part
        if library.reason() is None:
            library.load()
        else:
            library.warn_once()
        for each in PARTS:
            hosts.add(each, 0)

    def first_part(self) -> contextlib.AbstractContextManager[Any]:
        """A scope whose operations and variables are on the first part's host."""
        return tf.device(device_of(FIRST))

    def second_part(self) -> contextlib.AbstractContextManager[Any]:
        """A scope whose operations and variables are on the second part's host.

        Build the second part, what reads its input, and its optimizer in it: the optimizer's slots
        go where their variables are, a Keras optimizer's own counters where it is made.
        """
        return tf.device(device_of(SECOND))

    def session(self, graph: tf.Graph | None = None, config: Any | None = None) -> Any:
        """A session that runs both parts, when the other host is there and can run the fused ops.

        Args:
            graph: The graph; None: the current one.
            config: tf.compat.v1.ConfigProto of the session; if it has no operation_timeout_in_ms,
                that is set to the cluster's timeout.

        Returns:
            A tf.compat.v1.Session. A run that takes longer than the timeout is a
            tf.errors.DeadlineExceededError, one whose other host has gone a
            tf.errors.UnavailableError or AbortedError.

        Raises:
            ClusterError: Called by the second part; or the other host is not there in time, has
                other versions, or can't run the fused ops.
        """
        self._check_is(FIRST, "session")
        if self._connected:
            raise ClusterError(
                "session is for a process that has not called connect: TensorFlow runs one server "
                "at an address. Received: session after connect."
            )
        target = self._target()
        self._wait_for_second()
        peer.check_way_back(self._spec, self._timeout, target)
        config = peer.with_timeout(config, self._timeout)
        return ClusterSession(target, graph, config, lambda: peer.listens(self._spec))

    def connect(self) -> None:
        """Has TensorFlow run eager calls and tf.functions on both hosts, for a `SplitStep`.

        To be called once, before TensorFlow has run anything, and not with `session`. No time-out
        ends what waits for a host that does not answer any more.

        Raises:
            ClusterError: As `session` does.
        """
        self._check_is(FIRST, "connect")
        if self._server is not None or self._connected:
            raise ClusterError(
                "connect is for eager calls, session for TF1 graphs; a process has one of both, "
                "and connects once. Received: connect after "
                f"{'connect' if self._connected else 'session'}."
            )
        self._wait_for_second()
        self._check_port()
        tf.config.experimental_connect_to_cluster(
            self._cluster_spec(), job_name=FIRST, task_index=0
        )
        self._connected = True

    def serve(self) -> None:
        """Runs what the first part's session asks for, until that calls `stop`.

        Raises:
            ClusterError: Called by the first part, or the own address can't be used.
        """
        self._check_is(SECOND, "serve")
        own = tf.compat.v1.ConfigProto(device_filters=[device_of(SECOND)])
        with tf.Graph().as_default(), tf.compat.v1.Session(self._target(), config=own) as session:
            session.run(notices.show_versions())
            stopped, forget = notices.is_to_stop(), notices.forget_stop()
            hide = notices.hide_versions()
            print(f"The second part's host serves at {self._spec.addresses[SECOND]}.", flush=True)
            while not session.run(stopped):
                time.sleep(_POLL)
            session.run(hide)  # Who comes now waits for the next one.
            time.sleep(_GOODBYE)  # Who has asked waits for the answer.
            session.run(forget)

    def stop(self) -> None:
        """Has the second part's `serve` return; what its variables hold is lost.

        Raises:
            ClusterError: Called by the second part, or the other host is not there.
        """
        self._check_is(FIRST, "stop")
        peer.wait_for(self._spec, self._timeout)
        peer.run_there(self._spec, self._timeout, notices.ask_to_stop)

    def _wait_for_second(self) -> None:
        peer.wait_for(self._spec, self._timeout)
        peer.check_versions(self._spec, self._timeout)
        peer.check_ops(self._spec, self._timeout)

    def _cluster_spec(self) -> Any:
        return tf.train.ClusterSpec(
            {part: [address] for part, address in self._spec.addresses.items()}
        )

    def _target(self) -> str:
        """The address of this process's server, which is started first if need be."""
        if self._server is None:
            self._check_port()
            try:
                self._server = tf.distribute.Server(
                    self._cluster_spec(), job_name=self.part, task_index=0, config=self._config
                )
            except tf.errors.OpError as error:
                raise self._cannot_listen(error.message) from None
        # By another name than its own: of a server that TensorFlow knows to be in this process, it
        # does not take a call back, and would wait for ever for a host that has gone.
        host, port = host_and_port(self._spec.addresses[self.part])
        return f"grpc://{'127.0.0.1' if host == 'localhost' else 'localhost'}:{port}"

    def _check_port(self) -> None:
        """Raises if the own port is taken: TensorFlow does not say so."""
        _, port = host_and_port(self._spec.addresses[self.part])
        with socket.socket() as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                own.bind(("", port))
            except OSError as error:
                raise self._cannot_listen(str(error)) from None

    def _cannot_listen(self, reason: str) -> ClusterError:
        address = self._spec.addresses[self.part]
        return ClusterError(
            f'the {self.part} part can\'t listen at "{address}". Received: {reason}.'
        )

    def _check_is(self, part: str, method: str) -> None:
        if self.part != part:
            raise ClusterError(
                f"{method} is for the process of the {part} part. Received: a call by that of the "
                f"{self.part} part."
            )
