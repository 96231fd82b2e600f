"""Kernels with the mistakes that the emulation is there to find."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess

import numpy as np
import pytest

THREADS = 128
SEEDS = ["0", "1", "2", "3"]


def run(executable: pathlib.Path, name: str, seed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, SPLITOP_EMULATION_SEED=seed, ASAN_OPTIONS="detect_leaks=0")
    environment.pop("LD_PRELOAD", None)  # `make sanitize` has one for Python
    return subprocess.run(
        [executable, name], capture_output=True, text=True, env=environment, check=False
    )


def numbers(done: subprocess.CompletedProcess[str]) -> np.ndarray:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return np.array(done.stdout.split(), np.float32)


EXPECTED = {
    "sum": np.full(THREADS, 3 * np.arange(THREADS).sum()),
    "warp_sum": np.full(THREADS, np.arange(32).sum()),
    "copy": np.roll(np.arange(THREADS), -64),
}


@pytest.mark.parametrize("build", ["misuse", "sanitized_misuse", "portable_misuse"])
@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_right_is_right(request: pytest.FixtureRequest, build: str, name: str) -> None:
    result = numbers(run(request.getfixturevalue(build), name))
    assert np.array_equal(result.reshape(-1, THREADS), np.tile(EXPECTED[name], (8, 1)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name", ["sum_no_barrier", "warp_sum_no_barrier", "copy_no_wait", "copy_no_barrier"]
)
def test_what_is_read_too_early_is_nan(misuse: pathlib.Path, name: str, seed: str) -> None:
    assert np.isnan(numbers(run(misuse, name, seed))).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_overwritten_too_early_is_wrong(misuse: pathlib.Path, seed: str) -> None:
    result = numbers(run(misuse, "sum_no_second_barrier", seed))
    assert not np.array_equal(result.reshape(-1, THREADS), np.tile(EXPECTED["sum"], (8, 1)))


def test_what_a_shuffle_reads_from_an_absent_lane_is_nan(misuse: pathlib.Path) -> None:
    result = numbers(run(misuse, "from_absent_lane"))[:THREADS].reshape(-1, 32)
    assert np.isnan(result[:, :16]).all()


ABORTS = {
    "some_at_barrier": "40 threads wait in __syncthreads() at * but 88 have left",
    "some_leave": "40 threads wait in __syncthreads() at * but 88 have left",
    "two_barriers": "while other threads wait in the one at",
    "some_in_mma": "mma_tf32 needs all 32 lanes; there are lanes fffffff7",
    "two_operations": "wait in mma_",
    "wrong_mask": "a mask fffffffe that its own lane is not in",
    "unaligned_copy": "copy_async at * not aligned to 16 bytes",
    "copy_outside": "copy_async of 16 bytes at offset * of 512 bytes of shared memory",
    "load_matrix_outside": "load_matrix_x4 of 16 bytes at offset 512 of 512",
    "unaligned_stream": "store_streaming at * not aligned to 16 bytes",
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ABORTS)
def test_aborts(misuse: pathlib.Path, name: str, seed: str) -> None:
    done = run(misuse, name, seed)
    assert done.returncode == -signal.SIGABRT
    for part in ABORTS[name].split("*"):
        assert part in done.stderr
    # Where it was.
    assert "[with Parameters = {const float*, float*}" in done.stderr
    assert "grid (8, 1, 1), block (" in done.stderr
    assert "of (128, 1, 1) threads, thread (" in done.stderr


@pytest.mark.parametrize("seed", SEEDS)
def test_a_barrier_instead_of_a_warp_operation_aborts(misuse: pathlib.Path, seed: str) -> None:
    done = run(misuse, "barrier_in_warp_operation", seed)
    assert done.returncode == -signal.SIGABRT
    # What shows first depends on the order.
    in_warp = "wait in __syncwarp for lanes 00000020, which are at a barrier of the block"
    assert in_warp in done.stderr or "while other threads wait in the one at" in done.stderr


@pytest.mark.parametrize(
    ("name", "access"),
    [
        ("read_outside", "READ of size 4"),
        ("write_outside", "WRITE of size 4"),
        ("copy_from_outside", "READ of size 16"),
    ],
)
def test_the_sanitizer_sees_accesses_outside(
    sanitized_misuse: pathlib.Path, name: str, access: str
) -> None:
    done = run(sanitized_misuse, name)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
    assert access in done.stderr
    assert re.search("0 bytes (to the right of|after) 512-byte region", done.stderr)


def test_a_stack_that_is_too_deep_is_caught(misuse: pathlib.Path) -> None:
    assert run(misuse, "deep_stack").returncode == -signal.SIGSEGV
