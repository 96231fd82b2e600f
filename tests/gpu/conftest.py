"""Fixtures of the tests on a GPU, or on the emulation of one."""

from __future__ import annotations

import pytest

from tests.gpu import devices
from tests.gpu.kernels import EMULATED


@pytest.fixture(scope="session", params=devices.NAMES or ["no device"])
def device(request: pytest.FixtureRequest) -> devices.Device:
    """Every library that can hold arrays for the CUDA kernels."""
    if not devices.NAMES:
        pytest.skip(devices.why_none())
    return devices.make(request.param)


@pytest.fixture
def real_gpu(device: devices.Device) -> devices.Device:
    """For what the emulation is too slow for, or does not have."""
    if EMULATED:
        pytest.skip("for a GPU only")
    return device


@pytest.fixture(autouse=True)
def _bfloat16(request: pytest.FixtureRequest) -> None:
    """Leaves out what the library that holds the arrays does not know."""
    parameters = getattr(request.node, "callspec", None)
    if parameters is None or "bfloat16" not in parameters.params.values():
        return
    device = request.getfixturevalue("device")
    if isinstance(device, devices.Device) and not device.has_bfloat16:
        pytest.skip(f"{device.name} has no bfloat16")
