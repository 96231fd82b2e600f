from __future__ import annotations

import subprocess
import sys

import pytest

from splitop._src import library
from tests.cluster.processes import ROOT, Peer, environment, free_spec


@pytest.mark.slow
def test_the_same_bits_and_nothing_else_crosses() -> None:
    if library.reason() is not None:
        pytest.skip(str(library.reason()))
    spec = free_spec()
    with Peer(spec) as peer:
        run = subprocess.run(
            [sys.executable, "-m", "tests.cluster.eager"],
            cwd=ROOT,
            env=environment(spec, "first"),
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.splitlines()[-1] == "done"
        assert peer.process.wait(30) == 0  # It was told to stop.
