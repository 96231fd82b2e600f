from __future__ import annotations

from collections.abc import Iterator

import pytest

from splitop.lib import _kernels

ISAS = ("baseline", "avx2", "avx512")


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this machine has, one after the other."""
    if request.param not in _kernels.available_isas():
        pytest.skip(f"this machine or this build does not have {request.param}")
    before = _kernels.isa_in_use()
    _kernels.select_isa(request.param)
    yield request.param
    _kernels.select_isa(before)


@pytest.fixture
def cache_ways(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many ways of the first-level cache that the kernels reckon with."""
    before = _kernels.cache_ways()
    _kernels.set_cache_ways(request.param)
    yield request.param
    _kernels.set_cache_ways(before)
