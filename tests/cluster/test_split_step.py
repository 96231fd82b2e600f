from __future__ import annotations

import pytest

from splitop._src import library
from tests.cluster.processes import Peer, free_spec, run_first


@pytest.mark.slow
def test_the_same_bits_and_nothing_else_crosses() -> None:
    if library.reason() is not None:
        pytest.skip(str(library.reason()))
    spec = free_spec()
    with Peer(spec) as peer:
        run = run_first(spec, "-m", "tests.cluster.eager")
        assert run.returncode == 0, run.stderr
        assert run.stdout.splitlines()[-1] == "done"
        assert peer.process.wait(30) == 0  # It was told to stop.
