"""`SplitModel.fit` of two processes under MultiWorkerMirroredStrategy, also if one is killed."""

from __future__ import annotations

import pathlib
import pickle
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.distribute import fit_worker, fitting
from tests.distribute.processes import run_workers

Run = Callable[..., Any]

MODULE = "tests.distribute.fit_worker"


def _results(folder: pathlib.Path, *arguments: Any) -> list[Any]:
    """What two workers have that both end well."""
    outputs = [folder / f"output-{index}" for index in range(2)]
    for status, errors in run_workers(MODULE, [[output, *arguments] for output in outputs]):
        assert status == 0, errors
    return [pickle.loads(output.read_bytes()) for output in outputs]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What two workers have that nobody kills."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return _results(folder, "all", folder / "checkpoints")


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
    directory, output = tmp_path / "killed", tmp_path / "output"
    for victim, when, number, saved in (
        (1, "before", fit_worker.BATCHES + 1, 1),
        (1, "in", 1, 1),
        (0, "saving", 20, 2),
    ):
        arguments = [[output, "train", directory] for _ in range(2)]
        arguments[victim] += [when, number]
        ended = run_workers(MODULE, arguments)
        assert ended[victim][0] == -signal.SIGKILL
        status, errors = ended[1 - victim]
        assert status not in (0, -signal.SIGKILL), errors
        message = next(line for line in errors.splitlines() if "WorkerError: " in line)
        assert f'"worker:{victim}" at localhost:' in message
        assert "restart all workers" in message
        assert f"for {fit_worker.TIMEOUT} seconds" in message
        assert len(list(directory.glob("save-*"))) == saved
        assert (directory / ".writing").exists() is (when == "saving")

    resumed = _results(tmp_path, "train", directory)
    steps = fit_worker.EPOCHS * fit_worker.BATCHES
    for (_, actual), (_, expected) in zip(resumed, undisturbed, strict=True):
        assert (actual["done"], actual["step"]) == (2, steps)
        assert (expected["done"], expected["step"]) == (0, steps)
    (_, actual), (_, expected) = resumed[0], undisturbed[0]
    for value, other in zip(actual["values"], expected["values"], strict=True):
        assert value.tobytes() == other.tobytes()
