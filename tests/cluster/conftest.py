from __future__ import annotations

from collections.abc import Iterator

import pytest

import splitop
from splitop._src import library
from splitop._src.backend import ENVIRONMENT_VARIABLE
from tests.cluster.processes import Peer, free_spec


@pytest.fixture(autouse=True)
def _no_backend_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)


@pytest.fixture(scope="session")
def cluster() -> Iterator[splitop.cluster.Cluster]:
    """This process has the first part, another one the second part."""
    if library.reason() is not None:
        pytest.skip(str(library.reason()))
    spec = free_spec()
    with Peer(spec):
        yield splitop.cluster.Cluster(spec, "first")
