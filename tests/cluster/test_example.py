from __future__ import annotations

import importlib.util
import re

import pytest

from tests.cluster.processes import ROOT, Peer, free_spec, run_first


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="needs mlxtend")
def test_two_processes_by_one_command() -> None:
    run = run_first(free_spec(), str(ROOT / "examples" / "cluster.py"))
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert lines[-1] == "the same bits: True"
    assert lines[-2].startswith("204,800 bytes; ")


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_docs(number: int) -> None:
    """The programs of docs/machines.md, as they are there but for the addresses."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs/machines.md").read_text(), re.DOTALL)
    spec = free_spec()
    program = (
        code[number].replace("host1:2222", spec["first"]).replace("host2:2222", spec["second"])
    )
    with Peer(spec) as peer:
        run = run_first(spec, "-c", program)
        assert run.returncode == 0, run.stderr
        assert peer.process.wait(30) == 0
    loss = float(run.stdout.split()[0])
    assert loss < (2.0 if number == 0 else 0.5), run.stdout
    assert number == 1 or "204,800 bytes" in run.stdout
