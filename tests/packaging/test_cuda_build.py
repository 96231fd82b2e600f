"""What CMake makes of the nvcc that it finds, and what the library looks like from outside."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from splitop._src import library

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = pathlib.Path(sys.executable).parent

PROJECT = f"""\
cmake_minimum_required(VERSION 3.20)
project(probe LANGUAGES CXX)
list(APPEND CMAKE_MODULE_PATH "{ROOT}/cmake")
include(Cuda)
"""

pytestmark = pytest.mark.skipif(
    not (ROOT / "cmake").exists(), reason="the sources are not beside the tests"
)

Configure = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def configure(tmp_path: pathlib.Path) -> Configure:
    """Runs CMake's CUDA part alone."""
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)

    def run(mode: str, nvcc: pathlib.Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "CUDACXX"}
        if nvcc is not None:
            environment["CUDACXX"] = str(nvcc)
        return subprocess.run(
            [SCRIPTS / "cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DSPLITOP_CUDA={mode}"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def fake_nvcc(tmp_path: pathlib.Path) -> Callable[[str], pathlib.Path]:
    """Makes a program that is taken for nvcc."""

    def make(script: str) -> pathlib.Path:
        path = tmp_path / "fake-nvcc"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return make


def version(number: str) -> str:
    """A script that answers --version as nvcc does, and goes on for anything else."""
    release = number.rpartition(".")[0]
    return (
        'if [ "$1" = --version ]; then\n'
        f"  echo 'Cuda compilation tools, release {release}, V{number}'; exit 0\nfi"
    )


BAD_NVCCS = [
    (version("11.8.89"), r"fake-nvcc is of CUDA 11\.8\.89, older than 12\.1"),
    ("exit 1", r"fake-nvcc does not run"),
    (
        version("13.0.88") + "\necho 'nvcc fatal   : unsupported GNU version' >&2; exit 1",
        r"fake-nvcc 13\.0\.88 does not compile with GNU [0-9.]+: .*unsupported GNU version",
    ),
]


@pytest.mark.parametrize(("script", "problem"), BAD_NVCCS)
def test_a_bad_nvcc(
    script: str, problem: str, configure: Configure, fake_nvcc: Callable[[str], pathlib.Path]
) -> None:
    nvcc = fake_nvcc(script)
    result = configure("AUTO", nvcc)
    assert result.returncode == 0, result.stderr
    assert re.search(rf"CUDA kernels: not built \(.*{problem}", result.stdout)

    result = configure("ON", nvcc)
    assert result.returncode != 0
    flowed = " ".join(result.stderr.split())
    assert re.search(rf"The CUDA kernels can't be built: .*{problem}", flowed)
    assert "-DSPLITOP_CUDA=OFF" in flowed


def test_a_missing_nvcc(configure: Configure, tmp_path: pathlib.Path) -> None:
    result = configure("AUTO", tmp_path / "nowhere" / "nvcc")
    assert result.returncode == 0, result.stderr
    assert f"not built (there is no {tmp_path / 'nowhere' / 'nvcc'} on the PATH)" in result.stdout
    assert configure("ON", tmp_path / "nowhere" / "nvcc").returncode != 0


def test_off(configure: Configure) -> None:
    result = configure("OFF")
    assert result.returncode == 0, result.stderr
    assert "CUDA kernels: not built (SPLITOP_CUDA was OFF)" in result.stdout


def test_an_unknown_mode(configure: Configure) -> None:
    result = configure("MAYBE")
    assert result.returncode != 0
    assert "Received: MAYBE." in result.stderr


def test_a_good_nvcc(configure: Configure) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("there is no nvcc")
    result = configure("ON")
    assert result.returncode == 0, result.stderr
    assert re.search(r"CUDA kernels: 1\d\.\d+ sm_80, sm_90, compute_90", result.stdout)


def readelf(*arguments: str | pathlib.Path) -> str:
    """Output of readelf, which comes with every g++."""
    result = subprocess.run(
        [shutil.which("readelf") or pytest.skip("there is no readelf"), "--wide", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout


def test_the_libraries_need_nothing_of_cuda() -> None:
    libraries = sorted(library.directory().glob("*.so"))
    assert len(libraries) >= 2
    for path in libraries:
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("--dynamic", path))
        assert "libc.so.6" in needed
        assert [name for name in needed if re.search("cuda|cublas|nvidia", name)] == []


@pytest.mark.parametrize("build", ["installed", "emulated"])
def test_the_kernels_library_exports_the_headers_functions(
    build: str, request: pytest.FixtureRequest
) -> None:
    directory = (
        library.directory() if build == "installed" else request.getfixturevalue("emulated_dir")
    )
    symbols = readelf("--dyn-syms", directory / "libsplitop_kernels.so")
    exported = re.findall(r"(?:GLOBAL|WEAK)\s+DEFAULT\s+\d+\s+(\w+)", symbols)
    headers = (ROOT / "csrc" / "include" / "splitop").glob("*.h")
    declared = [
        name
        for header in headers
        for name in re.findall(r"^SPLITOP_API[^;(]*?\b(splitop_\w+)\(", header.read_text(), re.M)
    ]
    assert len(declared) > 20
    assert sorted(exported) == sorted(declared)
