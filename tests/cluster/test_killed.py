"""A process that is killed in a step: a named error at once, the same bits from the checkpoint."""

from __future__ import annotations

import os
import pathlib
import signal
from typing import Any

import pytest
import tensorflow as tf

from splitop._src import library
from splitop.cluster import Cluster
from tests.cluster.drive import LIVES
from tests.cluster.nursery import Nursery
from tests.cluster.processes import free_spec
from tests.cluster.resumed import BOTH, RUN_1, RUN_2, Training, undisturbed
from tests.two_run.test_flow import assert_equal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(library.reason() is not None, reason=str(library.reason())),
]

GONE = (tf.errors.UnavailableError, tf.errors.AbortedError)
TIMEOUT = 20.0
BETWEEN = "between the runs"
# How many times the second part's process is killed, and when.
KILLS = {
    "stash": {BOTH: 6, RUN_1: 4, BETWEEN: 1, RUN_2: 5},
    "recompute": {BOTH: 2, RUN_1: 2, BETWEEN: 1, RUN_2: 3},
}


@pytest.mark.parametrize("forward", KILLS)
def test_the_second_part_is_killed(tmp_path: pathlib.Path, forward: str) -> None:
    spec = free_spec()
    cluster = Cluster(spec, "first", timeout=TIMEOUT)
    training = Training(cluster, tmp_path / "saved", forward)
    plan = [
        (kind, (k + 0.5) / count) for kind, count in KILLS[forward].items() for k in range(count)
    ]
    with Nursery(spec, TIMEOUT) as nursery:
        for life, (kind, share) in enumerate(plan):
            process = nursery.start("serve")
            session, step = training.resume()
            assert step == life
            training.step(session, step, two_runs=kind != BOTH)
            training.save(session, step + 1)
            _kill(training, session, step + 1, kind, share, process)
            assert nursery.end(process) in (-signal.SIGKILL, -signal.SIGABRT)
            session.close()  # It waits for nobody.
        nursery.start("serve")
        session, step = training.resume()
        with session:
            two_runs = [kind != BOTH for kind, _ in plan]
            assert step == len(plan)
            assert_equal(training.state(session), undisturbed(tmp_path / "one", forward, two_runs))
        cluster.stop()


def test_the_first_part_is_killed(tmp_path: pathlib.Path) -> None:
    spec = free_spec()
    folder = tmp_path / "saved"
    with Nursery(spec, TIMEOUT) as nursery:
        second = nursery.start("serve")  # All the time the same one.
        for life in range(LIVES):
            process = nursery.start("train", folder, life)
            assert nursery.end(process) == -signal.SIGABRT
        cluster = Cluster(spec, "first", timeout=TIMEOUT)
        training = Training(cluster, folder, "stash")
        session, step = training.resume()
        with session:
            assert step == LIVES
            two_runs = [bool(life % 2) for life in range(LIVES)]
            assert_equal(training.state(session), undisturbed(tmp_path / "one", "stash", two_runs))
        cluster.stop()
        assert nursery.end(second) == 0


def _kill(
    training: Training, session: Any, step: int, kind: str, share: float, process: int
) -> None:
    """Has the second part's process killed in a step; the run of the step says so."""
    if kind in (RUN_2, BETWEEN):
        training.run(session, step, RUN_1)
    if kind == BETWEEN:
        os.kill(process, signal.SIGKILL)
        with pytest.raises(GONE):
            training.run(session, step, RUN_2)
        return
    work = training.work(kind)
    death = training.death_after(work[int(share * len(work))], "second")
    with pytest.raises(GONE):
        training.run(session, step, kind, death)
