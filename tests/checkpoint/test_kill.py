"""Processes that are killed at any moment: the last complete checkpoint is there, and is right."""

from __future__ import annotations

import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parents[2]
KILLED = -signal.SIGKILL
STEPS, KILLS = 40, 16


class Zygote:
    """Runs commands in new processes; see tests/checkpoint/zygote.py."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._result = folder / "result.json"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.checkpoint.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, task: str, directory: pathlib.Path, **options: Any) -> tuple[int, Any]:
        """The exit status, and the result of a process that was not killed."""
        self._result.unlink(missing_ok=True)
        command = {"task": task, "directory": str(directory), "result": str(self._result)}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(command | options) + "\n")
        self._process.stdin.flush()
        status = json.loads(self._process.stdout.readline())
        return status, json.loads(self._result.read_text()) if status == 0 else None

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait() == 0


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    process = Zygote(tmp_path_factory.mktemp("zygote"))
    yield process
    process.close()


@pytest.mark.slow
def test_killed_before_each_file_operation(zygote: Zygote, tmp_path: pathlib.Path) -> None:
    """Of saving step 4, and removing step 2."""
    status, result = zygote.run("count", tmp_path / "base", steps=3)
    assert (status, result["steps"]) == (0, [2, 3])
    (tmp_path / "base" / ".removed").mkdir()  # So that a leftover has to be removed, too.
    (tmp_path / "base" / ".removed" / "file").write_text("")

    seen, left_over = [], set()
    for event in range(1000):
        directory = shutil.copytree(tmp_path / "base", tmp_path / "run")
        status, _ = zygote.run("count", directory, steps=1, event=event)
        left_over |= {path.name for path in directory.glob(".[!l]*")}
        finished, result = zygote.run("count", directory, steps=1)
        assert finished == 0
        last = result["found"][-1]
        seen.append(last)
        assert result["found"] in ([2, 3], [2, 3, 4], [3, 4])
        assert result["restored"] == [last, last]  # The values of both parts are that step's.
        assert result["steps"] == [last, last + 1]
        saves = [f"save-{step:06d}-step-{step}" for step in (last, last + 1)]
        assert result["names"] == [".lock", *saves]
        shutil.rmtree(directory)
        if status == 0:
            break
        assert status == KILLED
    assert seen == sorted(seen)  # From one moment on it is there.
    assert seen.count(3) > 10
    assert seen.count(4) > 3  # Killed while the old one is removed.
    assert left_over == {".writing", ".removed"}


@pytest.mark.slow
def test_training_that_is_killed_many_times(zygote: Zygote, tmp_path: pathlib.Path) -> None:
    status, expected = zygote.run("train", tmp_path / "uninterrupted", steps=STEPS)
    assert status == 0

    draw, directory = random.Random(0), tmp_path / "killed"
    in_a_save = 0
    for kill in range(KILLS):
        when = {"seconds": draw.uniform(0, 0.5)} if kill % 2 else {"event": draw.randrange(200)}
        status, _ = zygote.run("train", directory, steps=STEPS, **when)
        assert status == KILLED, when
        in_a_save += (directory / ".writing").exists()
    status, result = zygote.run("train", directory, steps=STEPS)
    assert status == 0
    assert 0 < result["begin"] < STEPS
    assert in_a_save > 1
    assert result["digests"] == expected["digests"]
