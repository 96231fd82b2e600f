from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from tests.cluster.processes import ROOT, environment, free_spec


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="needs mlxtend")
def test_two_processes_by_one_command() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "cluster.py")],
        env=environment(free_spec(), "first"),
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[-1] == "the same bits: True"
    assert lines[-2].startswith("204,800 bytes; ")
