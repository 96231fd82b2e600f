"""Whether the CUDA kernels can run here, and how splitop says so."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import splitop
import splitop.lib
from splitop._src import library

ROOT = pathlib.Path(__file__).resolve().parents[2]
H100 = {"name": "NVIDIA H100 80GB HBM3", "compute_capability": 90}
T4 = {"name": "Tesla T4", "compute_capability": 75}

# State; versions of the build and of the driver; devices; the reason.
PROBLEMS = [
    (
        *("no_driver", (13000, 0), []),
        "There is no NVIDIA driver: install one for CUDA 13.0 or newer. "
        "Received: a build with CUDA 13.0, no driver.",
    ),
    (
        *("old_driver", (13000, 12080), []),
        "The NVIDIA driver is too old: update it to one for CUDA 13.0 or newer, or build splitop "
        "with a CUDA toolkit of 12.8 or older. "
        "Received: a build with CUDA 13.0, a driver for CUDA 12.8.",
    ),
    (
        *("no_device", (12090, 13000), []),
        "There is no GPU that this process can see: CUDA_VISIBLE_DEVICES may hide it, or the "
        "container was started without it. "
        "Received: a build with CUDA 12.9, a driver for CUDA 13.0.",
    ),
    (
        *("old_device", (12090, 12090), [T4]),
        "No GPU has compute capability 8.0 (sm_80, Ampere) or newer. "
        "Received: a build with CUDA 12.9, a driver for CUDA 12.9, Tesla T4 (sm_75).",
    ),
    (
        *("broken", (13000, 13010), []),
        "The NVIDIA driver reports an error: see what nvidia-smi says. "
        "Received: a build with CUDA 13.0, a driver for CUDA 13.1.",
    ),
]


class Kernels:
    """A stand-in for splitop.lib._kernels on any machine."""

    def __init__(
        self, state: str, versions: tuple[int, int] = (0, 0), devices: list[Any] | None = None
    ) -> None:
        self.cuda_state = lambda: state
        self.cuda_versions = lambda: versions
        self.cuda_devices = lambda: devices or []

    def available_isas(self) -> list[str]:
        return ["baseline"]

    def isa_in_use(self) -> str:
        return "baseline"


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a stand-in in the place of the compiled module."""

    def put(*state: Any) -> None:
        monkeypatch.setattr(splitop.lib, "_kernels", Kernels(*state), raising=False)

    return put


@pytest.mark.usefixtures("write_config")
@pytest.mark.parametrize(("state", "versions", "devices", "reason"), PROBLEMS)
def test_a_problem(
    state: str,
    versions: tuple[int, int],
    devices: list[Any],
    reason: str,
    kernels: Callable[..., None],
    write_config: Callable[..., None],
) -> None:
    kernels(state, versions, devices)
    write_config()
    assert library.cuda_reason() == reason
    info = splitop.build_info()
    assert info.cuda == "13.0 for sm_80, sm_90, compute_90 (PTX)"
    assert info.cuda_problem == reason
    assert info.gpus == ()
    assert f"gpus:          none in use. {reason}" in str(info)


def test_ready(kernels: Callable[..., None], write_config: Callable[..., None]) -> None:
    kernels("ready", (13000, 13000), [H100, T4])
    write_config()
    info = splitop.build_info()
    assert library.cuda_reason() is info.cuda_problem is None
    assert info.gpus == ("NVIDIA H100 80GB HBM3 (sm_90)", "Tesla T4 (sm_75)")
    assert "gpus:          NVIDIA H100 80GB HBM3 (sm_90), Tesla T4 (sm_75)" in str(info)


def test_not_built(kernels: Callable[..., None], write_config: Callable[..., None]) -> None:
    kernels("not_built")
    write_config(cuda=None, cuda_architectures=[], cuda_not_built="there is no nvcc on the PATH")
    reason = library.cuda_reason()
    assert reason is not None
    assert reason.startswith("splitop was built without CUDA. Install the CUDA toolkit")
    assert "--no-build-isolation" in reason
    assert reason.endswith("Received: there is no nvcc on the PATH.")
    assert splitop.build_info().cuda == "not built (there is no nvcc on the PATH)"


@pytest.mark.usefixtures("library_dir")
def test_not_built_and_no_config(kernels: Callable[..., None]) -> None:
    kernels("not_built")
    assert str(library.cuda_reason()).endswith("Received: no known reason.")
    assert splitop.build_info().cuda == "unknown"


def unusable_kernels() -> str:
    reason = library.cuda_reason()
    assert reason is not None
    assert reason.startswith("The compiled kernels can't be used: ")
    assert reason.endswith(f"Received: {library.directory()}.")
    return reason


@pytest.mark.usefixtures("library_dir")
def test_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(splitop.lib, "_kernels", raising=False)
    monkeypatch.setitem(sys.modules, "splitop.lib._kernels", None)
    unusable_kernels()


@pytest.mark.usefixtures("library_dir")
def test_kernels_of_an_older_version(
    kernels: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels("ready")
    monkeypatch.delattr(splitop.lib._kernels, "cuda_state")
    assert "no attribute 'cuda_state'" in unusable_kernels()


def test_every_state_has_a_reason() -> None:
    header = ROOT / "csrc" / "include" / "splitop" / "cuda.h"
    if not header.exists():
        pytest.skip("the sources are not beside the tests")
    enumeration = re.search(r"enum splitop_cuda_state \{(.*?)\}", header.read_text(), re.DOTALL)
    assert enumeration is not None
    states = {name.lower() for name in re.findall(r"SPLITOP_CUDA_(\w+) =", enumeration[1])}
    assert states == {"ready", "not_built", *library._CUDA_PROBLEMS}


def test_this_build() -> None:
    config = library.build_config()
    assert config is not None
    assert (config.cuda is None) == bool(config.cuda_not_built) == (not config.cuda_architectures)
    reason = library.cuda_reason()
    if config.cuda is None:
        assert str(reason).endswith(f"Received: {config.cuda_not_built}.")
    else:
        assert reason is None or f"a build with CUDA {config.cuda}" in reason


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("ready", "None"),
        ("no_driver", "There is no NVIDIA driver"),
        ("old_driver", "The NVIDIA driver is too old: update it to one for CUDA "),
        ("no_device", "There is no GPU"),
        ("old_device", "No GPU has compute capability 8.0"),
        ("broken", "The NVIDIA driver reports an error"),
    ],
)
def test_the_librarys_own_states(state: str, text: str, emulated_dir: pathlib.Path) -> None:
    code = (
        "import sys; sys.modules['tensorflow'] = None  # takes seconds to import\n"
        "from splitop._src import library\n"
        "from splitop.lib import _kernels\n"
        f"assert _kernels.cuda_state() == '{state}', _kernels.cuda_state()\n"
        "print(library.cuda_reason())\n"
        "import splitop\n"
        "print(splitop.build_info())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "SPLITOP_LIBRARY_DIR": str(emulated_dir),
            "SPLITOP_EMULATED_CUDA": state,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    reason, table = result.stdout.split("\n", 1)
    assert reason.startswith(text)
    assert "cuda:          emulated\n" in table
    gpus = "Emulated device (sm_90)" if state == "ready" else f"none in use. {reason}"
    assert f"gpus:          {gpus}\n" in table
    if state == "old_device":
        assert "Emulated device (sm_75)" in reason
