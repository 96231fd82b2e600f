"""Where CUDA can't be used the functions say why; the emulated build can be in any state."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from tests.gpu.kernels import EMULATED, kernels

STATES = {
    "ready": "ready",
    "no_driver": "there is no NVIDIA driver",
    "old_driver": "the NVIDIA driver is too old for the CUDA that this library was built with",
    "no_device": "there is no GPU, or none is visible",
    "old_device": "no GPU has compute capability 8.0 or newer",
    "broken": "the NVIDIA driver reports an error",
}

CODE = """
import numpy as np
from splitop.lib import _kernels as k

print(k.cuda_state())
print(k.cuda_state_message())
w = np.ones(3, np.float32)
try:
    k.cuda_multi_tensor_update(
        [np.ones_like(w)], [w], [[]], rule="sgd", hyper=np.ones(2, np.float32), decayed=[False]
    )
    print("ran")
except RuntimeError as error:
    print(error)
print(w.sum())
"""


@pytest.mark.skipif(not EMULATED, reason="the state of a real machine is what it is")
@pytest.mark.parametrize("state", STATES)
def test_state(state: str) -> None:
    directory = pathlib.Path(kernels.__file__).parent
    environment = {"SPLITOP_LIBRARY_DIR": str(directory), "SPLITOP_EMULATED_CUDA": state}
    output = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    message = STATES[state]
    refused = f"CUDA can't be used. Received: {message}"
    after = ["ran", "0.0"] if state == "ready" else [refused, "3.0"]
    assert output == [state, message, *after]


def test_what_is_known_of_the_devices() -> None:
    if kernels.cuda_state() != "ready":
        pytest.skip(kernels.cuda_state_message())
    built, driver = kernels.cuda_versions()
    assert 0 < built <= driver or built // 1000 == driver // 1000
    for device in kernels.cuda_devices():
        assert device["name"]
        assert device["compute_capability"] >= 80
        assert all(device[key] > 0 for key in ("num_sms", "l2_bytes", "clock_hz"))
        assert device["memory_bandwidth"] > 0
