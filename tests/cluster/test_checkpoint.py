"""A session on two hosts is saved and restored as one of one process, in both directions."""

from __future__ import annotations

import pathlib

import pytest
import tensorflow as tf

from splitop.cluster import Cluster, bytes_across
from tests.cluster.resumed import BOTH, Training
from tests.two_run.test_flow import assert_equal

tf1 = tf.compat.v1


@pytest.mark.parametrize("from_two", [True, False])
def test_from_two_hosts_to_one_and_back(
    cluster: Cluster, tmp_path: pathlib.Path, from_two: bool
) -> None:
    source, target = (
        Training(cluster if two else None, tmp_path, "stash") for two in (from_two, not from_two)
    )
    session, _ = source.resume()
    with session:
        for number in range(3):
            source.step(session, number, two_runs=False)
        source.save(session, 3)
        other, step = target.resume()
        with other:
            assert step == 3
            assert_equal(target.state(other), source.state(session))
            for training, own in ((source, session), (target, other)):
                training.step(own, 3, two_runs=True)
            assert_equal(target.state(other), source.state(session))


def test_tensorflows_own_saver(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    training = Training(cluster, tmp_path, "recompute")
    with training.graph.as_default():
        saver = tf1.train.Saver(training.variables)
    session, _ = training.resume()
    with session:
        training.step(session, 0, two_runs=False)
        path = saver.save(session, str(tmp_path / "own"))
        before = training.state(session)
        training.step(session, 1, two_runs=False)
        saver.restore(session, path)
        assert_equal(training.state(session), before)
        training.run(session, 1, BOTH)
    again, _ = training.resume()
    with again:
        saver.restore(again, path)
        assert_equal(training.state(again), before)


def test_all_weights_of_the_second_part_cross(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    training = Training(cluster, tmp_path, "stash")
    session, _ = training.resume()
    with session:
        training.step(session, 0, two_runs=False)
        training.save(session, 1)
        (save,) = (
            op
            for op in training.graph.get_operations()
            if op.type == "SaveV2" and any("second" in t.name for t in op.inputs)
        )
        name = training.graph.get_tensor_by_name(save.inputs[0].name)
        found = bytes_across(session, save, {name: str(tmp_path / "again")})
        size = sum(
            value.nbytes
            for name, value in training.state(session).items()
            if "second" in name or "power" in name
        )
        assert found.total == size
