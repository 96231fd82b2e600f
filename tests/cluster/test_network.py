"""Between the hosts, messages come late, are held back, or are lost with their connection."""

from __future__ import annotations

import contextlib
import pathlib
from typing import Any

import pytest
import tensorflow as tf

from splitop._src import library
from splitop.cluster import Cluster
from tests.cluster.nursery import Nursery
from tests.cluster.processes import free_spec
from tests.cluster.relay import Relay
from tests.cluster.resumed import RUN_1, RUN_2, Training, undisturbed
from tests.two_run.test_flow import assert_equal

LOST = (tf.errors.UnavailableError, tf.errors.AbortedError)
SHORT = 1000  # milliseconds


@pytest.mark.slow
@pytest.mark.skipif(library.reason() is not None, reason=str(library.reason()))
def test_late_held_back_and_lost(tmp_path: pathlib.Path) -> None:
    spec = free_spec()
    with Relay(spec["second"]) as there, Relay(spec["first"]) as back:
        # Each host has its own address, and the relay's for the other one.
        own = {"first": spec["first"], "second": there.address}
        with Nursery({"first": back.address, "second": spec["second"]}, 20.0) as nursery:
            nursery.start("serve")
            cluster = Cluster(own, "first", timeout=20.0)
            training = Training(cluster, tmp_path / "saved", "stash")
            session, _ = training.resume()
            there.delay = back.delay = 0.02
            training.step(session, 0, two_runs=False)
            training.step(session, 1, two_runs=True)
            training.save(session, 2)
            there.delay = back.delay = 0.0
            for step, relay in ((2, there), (3, back)):
                session = _held_back(training, session, step, relay)
                training.step(session, step, two_runs=True)
                training.save(session, step + 1)
            for step, relay in ((4, there), (5, back)):
                session = _lost(training, session, step, relay)
                training.step(session, step, two_runs=True)
                training.save(session, step + 1)
            found = training.state(session)
            session.close()
            assert_equal(
                found, undisturbed(tmp_path / "one", "stash", [False, True, True, True, True, True])
            )
            cluster.stop()


def _held_back(training: Training, session: Any, step: int, relay: Relay) -> Any:
    """A run without an answer ends in time; returns a session that has gone back to before it."""
    relay.open.clear()
    options = tf.compat.v1.RunOptions(timeout_in_ms=SHORT)
    feeds = training.feeds(step)
    with pytest.raises(tf.errors.DeadlineExceededError):
        session.run(training.ops.train_both, feeds, options)
    relay.open.set()
    session.close()
    return _resumed(training, step)


def _lost(training: Training, session: Any, step: int, relay: Relay) -> Any:
    """A connection that is lost between the runs is an error or is made anew."""
    training.run(session, step, RUN_1)
    relay.cut()
    with contextlib.suppress(*LOST):
        training.run(session, step, RUN_2)
    session.close()
    return _resumed(training, step)


def _resumed(training: Training, step: int) -> Any:
    session, found = training.resume()
    assert found == step
    return session
