"""What is wrong with a cluster has a name, and nothing waits for ever."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop import ClusterError
from splitop._src import library
from splitop._src.cluster import peer as peers
from splitop._src.cluster.session import ClusterSession
from splitop._src.cluster.spec import read_spec
from splitop.cluster import Cluster
from tests.cluster.models import Trainer
from tests.cluster.processes import OLD, SOMEBODY_ELSES, Peer, free_spec, tf_config

tf1 = tf.compat.v1

pytestmark = pytest.mark.skipif(library.reason() is not None, reason=str(library.reason()))

GOOD = {"first": "host1:2222", "second": "host2:2222"}


class TestSpec:
    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            (None, "an address for each"),
            ({"first": "a:1"}, 'each of "first" and "second"'),
            ({**GOOD, "ps": "c:1"}, "no other job"),
            ({**GOOD, "second": "host2"}, 'the address of "second"'),
            ({**GOOD, "second": "host2:0"}, "port from 1 to 65535"),
            ({**GOOD, "second": "host2:65536"}, "port from 1 to 65535"),
            ({**GOOD, "second": ["a:1", "b:1"]}, 'one "host:port"'),
            ({**GOOD, "second": 2222}, "Received: 2222"),
            ({"first": "a:1", "second": "a:1"}, 'Received: "a:1" twice'),
        ],
    )
    def test_addresses(self, spec: Any, words: str) -> None:
        with pytest.raises(ClusterError, match=words):
            Cluster(spec, "first")

    @pytest.mark.parametrize("part", [None, "worker", 1])
    def test_part(self, part: Any) -> None:
        with pytest.raises(ClusterError, match='part must be "first" or "second"'):
            Cluster(GOOD, part)

    @pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf"), "60", None])
    def test_timeout(self, timeout: Any) -> None:
        with pytest.raises(ClusterError, match="timeout must be a number of seconds above 0"):
            Cluster(GOOD, "first", timeout=timeout)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "or the environment variable TF_CONFIG"),
            ("{", "must be JSON with a cluster and a task"),
            ("[]", "must be JSON with a cluster and a task"),
            ('{"cluster": {}}', "must be JSON with a cluster and a task"),
            (tf_config(GOOD, "worker"), 'of the type "first" or "second"'),
            (tf_config(GOOD, "first").replace('"index": 0', '"index": 1'), "with the index 0"),
            (tf_config({"first": "a:1"}, "first"), "the cluster of TF_CONFIG must have"),
        ],
    )
    def test_environment(self, monkeypatch: pytest.MonkeyPatch, text: str, words: str) -> None:
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(ClusterError, match=words):
            Cluster()

    def test_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TF_CONFIG", tf_config(GOOD, "second"))
        assert Cluster().part == "second"


def test_a_method_of_the_other_part() -> None:
    with pytest.raises(ClusterError, match="serve is for the process of the second part"):
        Cluster(GOOD, "first").serve()
    for method in ("session", "connect", "stop"):
        with pytest.raises(ClusterError, match=f"{method} is for the process of the first part"):
            getattr(Cluster(GOOD, "second"), method)()


@pytest.mark.parametrize("method", ["session", "connect", "stop"])
def test_nobody_is_there(method: str) -> None:
    cluster = Cluster(free_spec(), "first", timeout=0.5)
    with pytest.raises(ClusterError, match=r"no answer in 0\.5 seconds"):
        getattr(cluster, method)()


@pytest.mark.parametrize("method", ["session", "connect"])
def test_session_and_connect_of_one_process(method: str) -> None:
    cluster = Cluster(GOOD, "first")
    cluster._connected = True
    with pytest.raises(ClusterError, match=f"Received: {method} after connect"):
        getattr(cluster, method)()


@pytest.fixture
def port() -> Iterator[int]:
    """One on which something listens that never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


def test_something_else_is_there(port: int) -> None:
    cluster = Cluster({**free_spec(), "second": f"127.0.0.1:{port}"}, "first", timeout=0.5)
    with pytest.raises(ClusterError, match=f'second part at "127.0.0.1:{port}" must take part'):
        cluster.session()


def test_the_own_port_is_taken(port: int) -> None:
    cluster = Cluster({**free_spec(), "first": f"127.0.0.1:{port}"}, "first")
    with pytest.raises(ClusterError, match=f'first part can\'t listen at "127.0.0.1:{port}"'):
        cluster.session()
    with pytest.raises(ClusterError, match=f'first part can\'t listen at "127.0.0.1:{port}"'):
        cluster._check_port()  # That of connect, whose process does nothing else then.


@pytest.mark.parametrize("there", [True, False])
def test_closing_waits_for_no_host(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    session = ClusterSession("", tf.Graph(), None, lambda: there)
    closed: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(tf1.Session, "close", lambda self: closed.append(self))
        session.close()
    assert closed == [session] * there
    tf1.Session.close(session)


@pytest.mark.slow
def test_hosts_that_can_not_serve() -> None:
    spec = free_spec()
    with Peer(spec, SOMEBODY_ELSES):
        peers.wait_for(read_spec(spec, "first"), 60)
        with pytest.raises(ClusterError, match="does not say its version"):
            Cluster(spec, "first", timeout=1).session()
        with pytest.raises(ClusterError, match="must have splitop's ops"):
            peers.check_ops(read_spec(spec, "first"), 20)
    spec = free_spec()
    with Peer(spec, OLD):
        own = re.escape(f"{splitop.__version__}, TensorFlow {tf.__version__}")
        with pytest.raises(ClusterError, match=rf"{own}\. Received: splitop 0\.0\.1, TensorFlow"):
            Cluster(spec, "first").session()


@pytest.mark.slow
def test_a_host_that_stops_and_one_that_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = free_spec()
    cluster = Cluster(spec, "first")
    with Peer(spec) as peer:
        each = Trainer(cluster, "adam", forward="stash")
        each.run_both(0)
        before = each.state()
        peer.process.send_signal(signal.SIGSTOP)
        options = tf1.RunOptions(timeout_in_ms=1000)
        with pytest.raises(tf.errors.DeadlineExceededError):
            each.session.run(each.ops.train_both, each.feeds(1), options)
        with pytest.raises(ClusterError, match="must take part"):
            peers.check_ops(cluster._spec, 1)
        peer.process.send_signal(signal.SIGCONT)
        each.run_both(2)
        assert np.any(each.state()["second_part/low/k:0"] != before["second_part/low/k:0"])
        peer.process.kill()
        peer.process.wait(30)
        with pytest.raises((tf.errors.UnavailableError, tf.errors.AbortedError)):
            each.run_both(3)
    with Peer(spec) as peer:
        # The weights that it had are lost: the session says so, and never goes on without them.
        with pytest.raises((tf.errors.UnavailableError, tf.errors.AbortedError)):
            each.run_both(3)
        with cluster.session(each.graph) as again:
            with pytest.raises(tf.errors.FailedPreconditionError):
                again.run(each.ops.train_both, each.feeds(3))
            close = ClusterSession.close
            ends: list[int] = []

            def close_late(session: ClusterSession) -> None:
                ends.append(peer.process.wait(30))
                close(session)

            monkeypatch.setattr(ClusterSession, "close", close_late)
            cluster.stop()
            assert set(ends) == {0}
