"""`SplitModel.fit` of two processes under MultiWorkerMirroredStrategy, also if one is killed."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src import workers
from tests.distribute import fit_worker, fitting
from tests.distribute.processes import LIMIT, run_workers

Run = Callable[..., Any]

ROOT = pathlib.Path(__file__).parents[2]


def _results(folder: pathlib.Path, function: Callable[..., Any], **options: Any) -> list[Any]:
    """What two workers return that both end well."""
    ended = run_workers(folder, function, [options, options])
    for worker in ended:
        assert worker.status == 0, worker.error
    return [worker.result for worker in ended]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder, where `undisturbed` leaves the checkpoints."""
    return tmp_path_factory.mktemp("undisturbed")


@pytest.fixture(scope="module")
def undisturbed(folder: pathlib.Path) -> list[Any]:
    """What two workers have that nobody kills."""
    return _results(folder, fit_worker.fit_all, directory=folder / "checkpoints")


@pytest.mark.slow
@pytest.mark.parametrize("case", fit_worker.CASES)
def test_equals_one_process(run: Run, undisturbed: list[Any], case: str) -> None:
    """One process on the joined batches; with clipping, which is replica by replica, two CPUs."""
    options = fit_worker.CASES[case]
    count = 2 if "clipping" in options else 1
    expected = run(fitting.fit, **{**options, "backend": "reference", "count": count})
    for fitted, _ in undisturbed:
        fitting.assert_equal(fitted[case], expected)
        assert "0 of" not in fitted[case].path


@pytest.mark.slow
def test_workers_that_are_killed(undisturbed: list[Any], tmp_path: pathlib.Path) -> None:
    """Each run goes on from the checkpoint before the kill; the end is that of one run."""
    directory = tmp_path / "checkpoints"
    for victim, when, number, saved in (
        (1, "before", fit_worker.BATCHES + 1, 1),
        (1, "in", 1, 1),
        (0, "saving", 20, 2),
    ):
        options: list[Any] = [{"directory": directory} for _ in range(2)]
        options[victim] |= {"when": when, "number": number}
        ended = run_workers(tmp_path, fit_worker.train, options)
        assert ended[victim].status == -signal.SIGKILL
        message = ended[1 - victim].error.splitlines()[-1]
        assert message.startswith("splitop._src.errors.WorkerError: ")
        assert f'"worker:{victim}" at localhost:' in message
        assert "restart all workers" in message
        assert f"for {fit_worker.TIMEOUT} seconds" in message
        assert len(list(directory.glob("save-*"))) == saved
        assert (directory / ".writing").exists() is (when == "saving")

    resumed = _results(tmp_path, fit_worker.train, directory=directory)
    steps = fit_worker.EPOCHS * fit_worker.BATCHES
    for actual, (_, expected) in zip(resumed, undisturbed, strict=True):
        assert (actual["done"], actual["step"]) == (2, steps)
        assert (expected["done"], expected["step"]) == (0, steps)
    (_, expected), *_ = undisturbed
    for value, other in zip(resumed[0]["values"], expected["values"], strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("present", [0, 1])
def test_a_worker_that_does_not_come(tmp_path: pathlib.Path, present: int) -> None:
    options: list[Any] = [None, None]
    options[present] = {"timeout_seconds": 2}
    (ended,) = run_workers(tmp_path, fit_worker.start, options)
    message = next(line for line in ended.error.splitlines() if "WorkerError: " in line)
    assert f'"worker:{1 - present}" at localhost:' in message
    assert "within 2 seconds" in message


@pytest.mark.slow
@pytest.mark.usefixtures("undisturbed")
def test_checkpoints_that_not_all_workers_have(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """The steps from which they would go on differ: the same error on both, and nothing trained."""
    directories = [folder / "checkpoints", tmp_path]
    options = [{"directory": directory} for directory in directories]
    for worker in run_workers(tmp_path, fit_worker.train, options):
        message = worker.error.splitlines()[-1]
        assert "CheckpointError: all workers must read" in message
        assert "the last steps 12, 0 (0: none)" in message


@pytest.mark.parametrize("timeout", [0, -1.0, float("inf"), float("nan"), True, "60", None])
def test_a_timeout_that_is_none(timeout: Any) -> None:
    with pytest.raises(splitop.SplitError, match=r"timeout_seconds must be .*Received: "):
        splitop.multi_worker_strategy(timeout)


def test_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(splitop.SplitError, match=r"set TF_CONFIG.*Received: the cluster \{\}"):
        splitop.multi_worker_strategy()


def test_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    tf.constant(0)
    config = {"cluster": {"worker": ["localhost:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    with pytest.raises(splitop.SplitError, match=r"before TensorFlow runs anything.*Received: "):
        splitop.multi_worker_strategy()


@pytest.mark.slow
def test_the_example() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "workers.py")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        check=True,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    first, second = run.stdout.split("both start again")
    assert "worker 1 was killed" in first
    assert 'WorkerError: "worker:1" at localhost:' in first
    losses = [float(loss) for loss in re.findall(r"epoch \d+: loss ([\d.]+)", run.stdout)]
    assert len(losses) == 12
    assert second.strip().startswith("epoch 5: ")
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("named", "silent", "lost"),
    [
        ([1, 2], [2], [2]),  # The first one has passed on what it was told.
        ([1], [2], [1, 2]),  # One of them is frozen, or has passed on that the other one is lost.
        ([2, 1], [1, 2], [2, 1]),
        ([1], [], [1]),  # It is there again, or frozen.
        ([], [], []),
    ],
)
def test_which_worker_is_lost(
    monkeypatch: pytest.MonkeyPatch, named: list[int], silent: list[int], lost: list[int]
) -> None:
    known = {("worker", task): f"host:{task}" for task in (1, 2)}
    monkeypatch.setattr(workers, "listens", lambda at: int(at.split(":")[1]) not in silent)
    message = " and ".join(f"/job:worker/replica:0/task:{task}" for task in (0, *named))
    assert workers._lost(message, known) == [("worker", task) for task in lost]
