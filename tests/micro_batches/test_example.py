"""The example runs, learns, and shows the memory that micro-batches spare."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_gradient_caching(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "memory.png"
    arguments = ["--steps", "30", "--train-batch", "256", "--batches", "2048", "--width", "512"]
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "examples/gradient_caching.py"),
            *arguments,
            "--plot",
            str(picture),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    )
    before, after = (
        float(re.search(pattern, done.stdout).group(1))
        for pattern in (r"before training: ([\d.]+)%", r"final accuracy: ([\d.]+)%")
    )
    assert before < 2
    assert after > 20
    found = re.search(r"(\d+) MB on the whole batch, (\d+) MB in micro-batches", done.stdout)
    whole, micro = (int(number) for number in found.groups())
    # Of 2 towers of 8 layers, 2048 rows of 512 floats are 67 MB. What remains is the loss's.
    assert whole - micro > 67
    assert picture.stat().st_size > 1000
