"""The stand-in for CUB's sort."""

from __future__ import annotations

import pathlib
import signal
import subprocess

import numpy as np
import pytest


def run(executable: pathlib.Path, bits: int, keys: np.ndarray) -> subprocess.CompletedProcess[str]:
    command = [str(executable), str(bits), *map(str, keys)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("bits", [1, 8, 9, 17, 32])  # the result is in either of the buffers
def test_equal_keys_keep_their_order(sort_pairs: pathlib.Path, bits: int) -> None:
    keys = np.random.default_rng(bits).integers(0, min(2**bits, 50), 300) << max(0, bits - 6)
    done = run(sort_pairs, bits, keys)
    assert done.returncode == 0, done.stderr
    received = np.array(done.stdout.split(), np.int64).reshape(-1, 2)
    order = np.argsort(keys, kind="stable")
    np.testing.assert_array_equal(received, np.stack([keys[order], order], 1))


def test_a_key_of_more_bits_than_were_named(sort_pairs: pathlib.Path) -> None:
    done = run(sort_pairs, 3, np.array([7, 8]))
    assert done.returncode == -signal.SIGABRT
    assert "sort_pairs: key 8 has more than 3 bits" in done.stderr
