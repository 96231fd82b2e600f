"""The instruction sets that the kernels are compiled for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from splitop.lib import _kernels

ISAS = ("baseline", "avx2", "avx512")


@contextlib.contextmanager
def selected(isa: str) -> Iterator[None]:
    """The kernels use this one meanwhile."""
    before = _kernels.isa_in_use()
    _kernels.select_isa(isa)
    try:
        yield
    finally:
        _kernels.select_isa(before)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this machine has, one after the other."""
    if request.param not in _kernels.available_isas():
        pytest.skip(f"this machine or this build does not have {request.param}")
    with selected(request.param):
        yield request.param
