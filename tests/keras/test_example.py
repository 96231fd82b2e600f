"""The example does what it says."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "keras_cut.py"


def test_keras_cut() -> None:
    pytest.importorskip("sklearn")
    out = subprocess.run(
        [sys.executable, str(EXAMPLE)], check=True, capture_output=True, text=True
    ).stdout
    assert "2 of 2 variables are fused" in out  # the first part
    assert "4 of 4 variables are fused" in out  # the second part
    assert "Steps of the first and of the second part: 117 and 235" in out
    assert "second_learning_rate: 1.2500e-04" in out
    assert "from a seed of shape (32, 32)" in out
    assert "The loaded model predicts the same: True" in out
    accuracy = re.search(r"not seen: (0\.\d+)", out)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.9
