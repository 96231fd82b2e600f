"""A kernel that can't be loaded is found before anything is written, and the error names it."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

import pytest

from tests.accuracy import PRECISIONS
from tests.gpu.chains import STRATEGIES
from tests.gpu.kernels import EMULATED

pytestmark = pytest.mark.skipif(not EMULATED, reason="a real device has room for all kernels")

ROOT = pathlib.Path(__file__).parents[2]
ERROR = re.compile(
    r"CUDA or cuBLAS has failed\. Received: loading (\w+): (\w+) \(.+\)(; no variable has changed)?"
)
OURS = {"gradient_kernel", "weight_update_kernel", "update_kernel"}
# What each strategy launches; the biases take update_kernel.
LAUNCHED = {
    "tiles": OURS | {"product_kernel"},
    "tiles, cuBLAS": OURS | {"scalars_kernel"},
    "chunks": OURS - {"weight_update_kernel"} | {"scalars_kernel"},
    "accumulate": OURS - {"weight_update_kernel"} | {"scalars_kernel"},
}

OF_A_TYPE = ("bags", "rows", "long_rows", "rest")  # what float32 and float64 tables launch


def errors_of(*case: str) -> list[str | None]:
    """What tests/gpu/load_failures.py prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.load_failures", *case],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def failed_kernels(errors: list[str | None], cause: str) -> list[str]:
    """The kernels that the errors name; all have the same cause."""
    names = []
    for error in errors:
        match = ERROR.fullmatch(error or "")
        assert match, error
        assert match[2] == cause, error
        assert match[3], error
        names.append(match[1])
    return names


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_room_for_a_kernel_of_a_chain(strategy: str) -> None:
    names = failed_kernels(errors_of("no_room", strategy), "cudaErrorMemoryAllocation")
    assert len(names) >= 2 * len(PRECISIONS)
    assert set(names) <= OURS | {"product_kernel", "scalars_kernel"}
    if strategy in LAUNCHED:
        assert set(names) == LAUNCHED[strategy]


def test_no_room_for_a_kernel_of_an_update() -> None:
    names = failed_kernels(errors_of("no_room_for_updates"), "cudaErrorMemoryAllocation")
    types = len(PRECISIONS) - 1  # TF32 is a kind of product
    assert names == ["update_kernel"] * 2 * types


def test_no_room_for_a_kernel_of_tables() -> None:
    names = failed_kernels(errors_of("no_room_for_tables"), "cudaErrorMemoryAllocation")
    assert names == [f"table_{part}_kernel" for part in ("ids", *OF_A_TYPE, *OF_A_TYPE)]


def test_no_shared_memory_for_a_large_tile() -> None:
    names = failed_kernels(errors_of("no_shared_memory"), "cudaErrorInvalidValue")
    assert names == ["product_kernel"] * (len(PRECISIONS) - 1)


def test_no_handle_of_cublas() -> None:
    error = "Received: creating a handle: cuBLAS' status 3; no variable has changed"
    assert errors_of("no_cublas_handle") == [f"CUDA or cuBLAS has failed. {error}"] * len(
        PRECISIONS
    )


def test_after_a_warm_up_nothing_is_loaded() -> None:
    failed, *errors = errors_of("warm")
    match = ERROR.fullmatch(failed or "")
    assert match
    assert match[1] in OURS | {"product_kernel"}
    assert errors == [None] * (len(PRECISIONS) * (len(STRATEGIES) + 1) + 2)
