"""A checkpoint that may be damaged, and a training that it must not touch then."""

from __future__ import annotations

import pathlib
import shutil

import pytest

import splitop
from tests.checkpoint.parts import Training


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with a checkpoint of step 2."""
    directory = tmp_path_factory.mktemp("checkpoints") / "saved"
    run = Training()
    run.train(0, 2)
    splitop.Checkpoint(directory, **run.parts()).save(2)
    return directory


@pytest.fixture
def directory(saved: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy that a test may damage."""
    return pathlib.Path(shutil.copytree(saved, tmp_path / "copy"))


@pytest.fixture(scope="module")
def victim() -> Training:
    """A training in another state than what was saved."""
    run = Training(seed=1)
    run.train(0, 1)
    return run
