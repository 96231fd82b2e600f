"""Two hosts train as one process does, and only IV and the seed go from one to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from splitop.cluster import Cluster, bytes_across
from tests.cluster.models import BATCH, FEATURES, IV, OPTIMIZERS, Trainer
from tests.two_run.test_flow import assert_equal

tf1 = tf.compat.v1

Make = Callable[..., Trainer]

FIRST, SECOND = "/job:first/task:0", "/job:second/task:0"
IV_BYTES = BATCH * IV * 4
TO_FIRST, TO_SECOND = (SECOND, FIRST, IV_BYTES), (FIRST, SECOND, IV_BYTES)
FORWARD = ("recompute", "stash")


@pytest.fixture
def trainer(cluster: Cluster) -> Iterator[Make]:
    """Makes trainers on two hosts, or on one, and closes their sessions."""
    made: list[Trainer] = []

    def make(hosts: int, *args: Any, **options: Any) -> Trainer:
        made.append(Trainer(cluster if hosts == 2 else None, *args, **options))
        return made[-1]

    yield make
    for each in made:
        each.session.close()


def crossing(each: Trainer, fetches: Any, feeds: Any) -> list[tuple[str, str, int | None]]:
    """From where to where, and how many bytes, sorted."""
    found = bytes_across(each.session, fetches, feeds).with_content()
    return sorted((c.source, c.target, c.bytes) for c in found)


@pytest.mark.parametrize("path", ["fused", "reference"])
@pytest.mark.parametrize("forward", FORWARD)
@pytest.mark.parametrize("optimizer", ["adam", "keras adam", "keras clipped"])
def test_the_same_bits_and_nothing_else_crosses(
    trainer: Make, path: str, forward: str, optimizer: str
) -> None:
    two, one = (
        trainer(hosts, optimizer, forward=forward, backend=path, skip_nonfinite=True)
        for hosts in (2, 1)
    )
    start = two.state()
    assert_equal(start, one.state())
    for step in range(3):
        for each in (two, one):
            each.run_both(2 * step)
            each.two_runs(2 * step + 1)
    assert_equal(two.state(), one.state())
    assert all(
        np.any(start[name] != value) for name, value in two.state().items() if "part" in name
    )

    both = crossing(two, two.ops.train_both, two.feeds(6))
    assert both == sorted([TO_FIRST, TO_SECOND])
    assert crossing(two, two.ops.train_first, two.feeds(7)) == [TO_FIRST]
    seed = np.ones([BATCH, IV], np.float32)
    assert crossing(two, two.ops.train_second, two.seed(seed)) == [TO_SECOND]


@pytest.mark.parametrize("forward", FORWARD)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_run_2_is_on_the_second_host(trainer: Make, forward: str, optimizer: str) -> None:
    each = trainer(2, optimizer, forward=forward)
    each.session.run(each.ops.train_first, each.feeds(0))
    seed = each.seed(np.ones([BATCH, IV], np.float32))
    metadata = tf1.RunMetadata()
    options = tf1.RunOptions(output_partition_graphs=True)
    each.session.run(each.ops.train_second, seed, options, metadata)
    hosts: dict[str, set[str]] = {FIRST: set(), SECOND: set()}
    for node in (node for graph in metadata.partition_graphs for node in graph.node):
        spec = tf.DeviceSpec.from_string(node.device)
        hosts[f"/job:{spec.job}/task:{spec.task}"].add(node.op)
    # What was kept of the seed is where the seed was computed.
    kept = {"VarHandleOp", "VarIsInitializedOp", "Assert", "ReadVariableOp", "DestroyResourceOp"}
    passes_on = {"_Recv", "_Send", "NoOp", "Const", "Identity"}
    assert hosts[FIRST] <= passes_on | (kept if forward == "stash" else set())
    assert hosts[SECOND] >= {"_Recv", "VarHandleOp", "ReadVariableOp"}


def test_the_stash_is_on_the_second_host(trainer: Make) -> None:
    each = trainer(2, "adam", forward="stash", backend="fused")
    names = [op.device for op in each.graph.get_operations() if "HoldVariables" in op.type]
    assert names == [SECOND]
    held = tf1.RunOptions(output_partition_graphs=True)
    metadata = tf1.RunMetadata()
    each.session.run(each.ops.keep, each.feeds(0), held, metadata)
    nodes = [node for graph in metadata.partition_graphs for node in graph.node]
    puts = [node for node in nodes if node.op == "AssignVariableOp"]
    on_first = [node for node in puts if "/job:first/" in node.device]
    assert len(on_first) == 2  # The seed, and that it is there.
    assert len(puts) > 6


def test_run_2_without_run_1(trainer: Make) -> None:
    each = trainer(2, "adam", forward="stash")
    before = each.state()
    with pytest.raises(tf.errors.InvalidArgumentError, match="StashError: train_second has no"):
        each.session.run(each.ops.train_second)
    assert_equal(before, each.state())


def test_a_write_in_between_is_seen(trainer: Make) -> None:
    each = trainer(2, "adam", forward="stash")
    (kernel,) = (v for v in each.variables if v.name == "second_part/top/k:0")
    with each.graph.as_default():
        write = kernel.assign_add(tf.ones_like(kernel))
    each.session.run(each.ops.train_first, each.feeds(0))
    each.session.run(write)
    before = each.state()
    with pytest.raises(tf.errors.InvalidArgumentError, match='a write to "second_part/top/k:0"'):
        each.session.run(each.ops.train_second)
    assert_equal(before, each.state())


def test_a_nan_in_the_seed_is_named(trainer: Make) -> None:
    each = trainer(2, "adam", check_numerics=True)
    each.session.run(each.ops.train_first, each.feeds(0))
    before = each.state()
    with pytest.raises(tf.errors.InvalidArgumentError, match="SeedError"):
        each.session.run(each.ops.train_second, each.seed(np.full([BATCH, IV], np.nan)))
    assert_equal(before, each.state())


class TestBytesAcross:
    def test_an_input_that_is_fed_crosses_too(self, trainer: Make) -> None:
        each = trainer(2, "adam", fed=True)
        traffic = bytes_across(each.session, each.ops.train_both, each.feeds(0))
        assert [(c.name, c.bytes) for c in traffic.with_content() if c.name == "x:0"] == [
            ("x:0", BATCH * FEATURES * 4)
        ]
        assert traffic.total == 2 * IV_BYTES + BATCH * FEATURES * 4
        assert "x:0 " in str(traffic)
        assert f"{traffic.total:,} bytes" in str(traffic)

    def test_weights_that_are_fetched(self, trainer: Make) -> None:
        each = trainer(2, "adam")
        (kernel,) = (v for v in each.variables if v.name == "second_part/low/k:0")
        assert crossing(each, kernel, None) == [(SECOND, FIRST, 5 * 8 * 4)]

    def test_one_process(self, trainer: Make) -> None:
        each = trainer(1, "adam")
        traffic = bytes_across(each.session, each.ops.train_both, each.feeds(0))
        assert traffic.crossings == ()
        assert traffic.total == 0
