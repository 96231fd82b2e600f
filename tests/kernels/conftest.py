from __future__ import annotations

from collections.abc import Iterator

import pytest

from splitop.lib import _kernels
from tests.isas import isa as isa


@pytest.fixture
def cache_ways(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many ways of the first-level cache that the kernels reckon with."""
    before = _kernels.cache_ways()
    _kernels.set_cache_ways(request.param)
    yield request.param
    _kernels.set_cache_ways(before)
