"""Runs the tests that need a GPU on an emulated one, where there is no other."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from splitop._src import library
from tests.op.gpu import gpu_reason

ROOT = pathlib.Path(__file__).parents[2]
# Libraries of a build with SPLITOP_CUDA=EMULATED, which may lack the TensorFlow op.
EMULATED_DIR = "SPLITOP_EMULATED_DIR"


@pytest.fixture
def libraries(tmp_path: pathlib.Path) -> pathlib.Path:
    """The op of this build on the emulated kernels."""
    if gpu_reason() is None:
        pytest.skip("the tests themselves run on a GPU here")
    if not os.environ.get(EMULATED_DIR):
        pytest.skip(f"{EMULATED_DIR} does not name a build with emulated CUDA kernels")
    emulated = pathlib.Path(os.environ[EMULATED_DIR])
    for path in emulated.glob("*.so"):
        if path.name != library.OPS_LIBRARY:
            (tmp_path / path.name).symlink_to(path)
    # Not a link: it looks for the kernels beside itself.
    op = (library.directory() / library.OPS_LIBRARY).read_bytes()
    (tmp_path / library.OPS_LIBRARY).write_bytes(op)
    op_config, config = (
        json.loads((directory / library.BUILD_CONFIG).read_text())
        for directory in (library.directory(), emulated)
    )
    own = {"cuda": "emulated", "isas": config["isas"]}
    (tmp_path / library.BUILD_CONFIG).write_text(json.dumps(op_config | own))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "tests", ["tests/op", "tests/planner", "tests/numerics", "tests/gpu/test_op.py"]
)
def test_gpu_tests(libraries: pathlib.Path, tests: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-m", "gpu", "-p", "no:cacheprovider", tests],
        cwd=ROOT,
        env={
            **os.environ,
            "SPLITOP_LIBRARY_DIR": str(libraries),
            "SPLITOP_CUBLAS": str(libraries / "libcublas_emulated.so"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout
    assert "needs a GPU" not in result.stdout
