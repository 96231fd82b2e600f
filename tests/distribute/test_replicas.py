"""Several replicas under tf.distribute: the step of the reference path, and the same on each."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import splitop
from splitop._src import agreement
from tests.distribute import cases, replicas, worker
from tests.distribute.processes import run_workers

Run = Callable[..., Any]

GATHERED = {"DenseSweep": 2, "DenseChain": 4}
ADDED_UP = {"MultiTensorUpdate": 2}
CLIPPED = {"MultiTensorUpdate": 2, "SquaredNorms": 2}
MIXED = {"DenseSweep": 2, "DenseChain": 2, "MultiTensorUpdate": 2}
TWO_CHAINS = {"DenseSweep": 4, "DenseChain": 4, "MultiTensorUpdate": 2}
WITH_TABLE = {"MultiTensorUpdate": 2, "TableUpdate": 2}


def _assert_equal(actual: replicas.Trained, expected: replicas.Trained) -> None:
    both = zip(actual.values.items(), expected.values.values(), strict=True)
    for (name, value), reference in both:
        np.testing.assert_allclose(value, reference, rtol=1e-9, atol=1e-11, err_msg=name)


def _assert_same_bits(actual: replicas.Trained, expected: replicas.Trained) -> None:
    both = zip(actual.values.items(), expected.values.values(), strict=True)
    for (name, value), other in both:
        assert np.asarray(value).tobytes() == np.asarray(other).tobytes(), name


@pytest.mark.parametrize(
    ("part", "optimizer", "options", "ops"),
    [
        ("wide", "Adam", {}, GATHERED),
        ("wide", "momentum", {"global_step": True}, GATHERED),
        ("wide", "Nadam", {}, GATHERED),
        ("wide", "EMA", {}, GATHERED),
        ("wide", "tf1 Adam", {"global_step": True}, GATHERED),
        ("twice", "SGD", {"sizes": (6, 3)}, {"DenseSweep": 2, "DenseChain": 2}),
        ("narrow", "AdamW", {}, ADDED_UP),
        ("wide", "schedule", {"batch_is_known": False}, ADDED_UP),
        ("wide", "Lamb", {}, {}),
        ("mixed", "tf1 Momentum", {}, TWO_CHAINS),
        ("synchronized", "SGD", {}, TWO_CHAINS),
        ("constraint", "Adam", {}, MIXED),
        ("ids", "Adam", {}, WITH_TABLE),
        ("bags", "Adam", {"sizes": (4, 0), "batch_is_known": False}, WITH_TABLE),
        ("sparse bags", "Adam", {}, WITH_TABLE),
        ("sparse bags", "tf1 GradientDescent", {}, WITH_TABLE),
        ("ragged bags", "Adam", {}, WITH_TABLE),
        ("narrow", "clipnorm", {}, CLIPPED),
        ("constraint", "global_clipnorm", {}, {**MIXED, "SquaredNorms": 4}),
        ("wide", "loss_scale_factor", {}, GATHERED),
        ("mixed", "LossScaleOptimizer, global_clipnorm", {}, {**TWO_CHAINS, "SquaredNorms": 4}),
        ("bags", "clipvalue", {}, WITH_TABLE),
        ("constraint", "LossScaleOptimizer", {}, {"MultiTensorUpdate": 2, "SquaredNorms": 6}),
    ],
)
def test_equals_the_reference(
    run: Run, part: str, optimizer: str, options: dict[str, Any], ops: dict[str, int]
) -> None:
    fused = run(replicas.train, part, optimizer, "auto", **options)
    reference = run(replicas.train, part, optimizer, "reference", **options)
    assert fused.ops == ops
    assert fused.differing == reference.differing == set()
    _assert_equal(fused, reference)


def test_replicas_that_take_turns_in_their_gradients(run: Run) -> None:
    fused, reference = (
        run(cases.with_sums_by_merge_call, backend) for backend in ("fused", "reference")
    )
    for value, expected in zip(fused, reference, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("part", "sparse"), [("wide", "exact"), ("sparse bags", "lazy")])
def test_equals_one_replica_with_all_rows(run: Run, part: str, sparse: str) -> None:
    optimizer = "momentum"
    two = run(replicas.train, part, optimizer, "fused", sparse=sparse)
    one = run(replicas.train, part, optimizer, "fused", sparse=sparse, replicas=1)
    assert "DenseSweep" not in one.ops
    _assert_equal(two, one)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize(
    ("part", "optimizer"), [("constraint", "clipvalue"), ("mixed", "tf1 Adam")]
)
def test_a_step_that_is_not_finite_on_one_replica_is_left_out(
    run: Run, part: str, optimizer: str, backend: str
) -> None:
    options = {"skip_nonfinite": True, "global_step": True}
    before = run(replicas.train, part, optimizer, backend, steps=2, **options)
    after = run(replicas.train, part, optimizer, backend, steps=3, planted=1, **options)
    assert after.differing == set()
    _assert_same_bits(after, before)


@pytest.mark.parametrize("gathered", [True, False])
def test_a_sum_that_is_not_finite_is_left_out(run: Run, gathered: bool) -> None:
    assert np.all(np.isinf(run(cases.sum_that_overflows, gathered, skip_nonfinite=False)))
    assert not np.any(run(cases.sum_that_overflows, gathered, skip_nonfinite=True))


@pytest.mark.parametrize("name", ["LossScaleOptimizer", "LossScaleOptimizer, global_clipnorm"])
def test_the_loss_scale_moves_by_the_gradients_of_all_replicas(run: Run, name: str) -> None:
    """Keras asks the first replica only, and trains with an infinity of the second one."""
    before = run(replicas.train, "wide", name, "auto", steps=2)
    after = run(replicas.train, "wide", name, "auto", steps=3, planted=1)
    changed = {
        path: float(value)
        for (path, value), other in zip(after.values.items(), before.values.values(), strict=True)
        if np.asarray(value).tobytes() != np.asarray(other).tobytes()
    }
    ((path, scale),) = changed.items()
    assert path.endswith("dynamic_scale")
    assert scale == 8.0
    assert after.differing == set()


def test_reasons(run: Run) -> None:
    added_up = run(replicas.train, "narrow", "Adam", "fused", steps=1)
    assert all("less to move" in why for why in added_up.updated.values())
    unknown = run(replicas.train, "wide", "Adam", "fused", steps=1, batch_is_known=False)
    assert all("not known beforehand" in why for why in unknown.updated.values())
    clipped = run(replicas.train, "wide", "clipvalue", "fused", steps=1)
    assert all("each replica" in why for why in clipped.updated.values())
    assert len(added_up.updated) == len(unknown.updated) == len(clipped.updated) == 4


@pytest.mark.parametrize("short", ["float16", "bfloat16"])
def test_short_gradients_are_unscaled_and_added_up_in_float32(run: Run, short: str) -> None:
    optimizer = "LossScaleOptimizer, global_clipnorm"
    fused = run(replicas.train, f"mixed_{short}", optimizer, "fused")
    reason = f"the replicas add up its gradients in float32, as it computes in {short}"
    assert set(fused.updated.values()) == {reason}
    assert fused.ops == {"MultiTensorUpdate": 2, "SquaredNorms": 4}
    assert fused.differing == set()


@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        (cases.outside_of_run, splitop.SplitError, r"given to strategy\.run.*MirroredStrategy"),
        (cases.in_a_branch, splitop.SplitError, r"not inside a tf\.cond.*Received: .*cond"),
        (
            cases.variable_from_outside,
            splitop.VariableListError,
            r"kernel.* copy on each replica.*strategy\.scope\(\)",
        ),
        (
            cases.optimizer_from_outside,
            splitop.SplitError,
            r"optimizer 'sgd.*strategy\.scope\(\).*Received: .*iteration",
        ),
        (
            cases.global_step_from_outside,
            splitop.SplitError,
            r"global_step 'counter:0'.*strategy\.scope\(\)",
        ),
    ],
)
def test_errors(run: Run, case: Callable[[], None], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(case)


@pytest.mark.parametrize(
    ("optimizer", "option"),
    [("accumulating", "gradient_accumulation_steps=2"), ("overwriting", "overwrite_frequency=2")],
)
def test_what_keras_can_not_do_on_replicas(run: Run, optimizer: str, option: str) -> None:
    with pytest.raises(splitop.SplitError, match=f"several replicas.*Received: .*{option}"):
        run(replicas.train, "narrow", optimizer, "auto")


def test_variables_of_a_strategy_outside_of_it(run: Run) -> None:
    reasons = run(cases.outside_of_the_strategy)
    assert len(reasons) == 2
    assert all("MirroredStrategy), outside of its replicas" in why for why in reasons.values())


def test_a_backend_that_is_set_around_the_step(run: Run) -> None:
    assert run(cases.backend_around_run, "reference") == [(), ()]
    first, second = run(cases.backend_around_run, "fused")
    assert len(first) == len(second) == 2


def test_replicas_that_compute_in_different_ways(run: Run) -> None:
    declined, difference = run(cases.unlike_replicas)
    assert "in different ways" in declined["w:0"]
    assert difference < 1e-12


def test_an_error_on_one_replica_changes_nothing_on_any(run: Run) -> None:
    message, unchanged = run(cases.seed_that_does_not_fit)
    assert "SeedError" in message
    assert unchanged


@pytest.mark.parametrize("optimizer", ["AdamOptimizer", "GradientDescentOptimizer"])
def test_in_a_graph(run: Run, optimizer: str) -> None:
    fused = run(cases.train_in_graph, optimizer, "fused")
    reference = run(cases.train_in_graph, optimizer, "reference")
    for first, second in (fused[:2], fused[2:]):
        assert first.tobytes() == second.tobytes()
    np.testing.assert_allclose(fused[0], reference[0], rtol=1e-9)
    np.testing.assert_allclose(fused[2], reference[2], rtol=1e-9)


@pytest.mark.parametrize(
    ("inputs", "outputs", "rows", "gathers"),
    [(40, 40, 19, True), (40, 40, 20, False), (1000, 10, 9, True), (40, 40, None, False)],
)
def test_the_rows_are_gathered_where_they_are_less(
    inputs: int, outputs: int, rows: int | None, gathers: bool
) -> None:
    assert (agreement.sum_reason(inputs, outputs, rows) is None) is gathers


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_workers(count: int, tmp_path: pathlib.Path) -> None:
    """MultiWorkerMirroredStrategy, in a process for each worker."""
    ended = run_workers(tmp_path, worker.train, [{}] * count)
    for each in ended:
        assert each.status == 0, each.error
    trained = [each.result for each in ended]
    for part, optimizer in worker.RUNS:
        for of_worker in trained:
            fused = of_worker[part, optimizer, "auto"]
            assert fused.ops
            assert fused.declined == {}
            _assert_equal(fused, of_worker[part, optimizer, "reference"])
            _assert_same_bits(fused, trained[0][part, optimizer, "auto"])
