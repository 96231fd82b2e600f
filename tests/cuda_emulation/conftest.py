"""The emulation compiled with kernels of its own tests."""

from __future__ import annotations

import ctypes
import os
import pathlib
import subprocess

import pytest

EMULATION = pathlib.Path(__file__).parent
SOURCES = ("block.cpp", "fiber.cpp", "primitives.cpp", "runtime.cpp")
FLAGS = (
    "-std=c++17",
    "-O1",
    "-g",
    "-Wall",
    "-Wextra",
    "-fPIC",
    "-fvisibility=hidden",
    f"-I{EMULATION / 'include'}",
)
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def compile_with_emulation(kernels: str, output: pathlib.Path, *flags: str) -> pathlib.Path:
    compiler = os.environ.get("CXX", "g++")
    sources = [str(EMULATION / name) for name in (*SOURCES, kernels)]
    command = [compiler, *FLAGS, *flags, "-x", "c++", *sources, "-o", str(output)]
    subprocess.run(command, check=True)
    return output


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """primitives_under_test.cu."""
    output = tmp_path_factory.mktemp("emulation") / "primitives.so"
    return ctypes.CDLL(str(compile_with_emulation("primitives_under_test.cu", output, "-shared")))


@pytest.fixture(scope="session")
def misuse(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """misuse.cu, an executable."""
    return compile_with_emulation("misuse.cu", tmp_path_factory.mktemp("emulation") / "misuse")


@pytest.fixture(scope="session")
def sanitized_misuse(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    output = tmp_path_factory.mktemp("emulation") / "misuse"
    return compile_with_emulation("misuse.cu", output, *SANITIZE)


@pytest.fixture(scope="session")
def portable_misuse(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """With the fibers of other processors."""
    output = tmp_path_factory.mktemp("emulation") / "misuse"
    return compile_with_emulation("misuse.cu", output, "-DSPLITOP_EMULATION_UCONTEXT")


@pytest.fixture(scope="session")
def cublas(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    output = tmp_path_factory.mktemp("emulation") / "cublas.so"
    compiler = os.environ.get("CXX", "g++")
    subprocess.run(
        [compiler, *FLAGS, "-O2", "-shared", str(EMULATION / "cublas.cpp"), "-o", str(output)],
        check=True,
    )
    return ctypes.CDLL(str(output))


@pytest.fixture(scope="session")
def sort_pairs(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """sort_pairs_under_test.cpp, an executable."""
    output = tmp_path_factory.mktemp("emulation") / "sort_pairs"
    sources = [EMULATION / name for name in ("sort_pairs.cpp", "sort_pairs_under_test.cpp")]
    compiler, csrc = os.environ.get("CXX", "g++"), EMULATION.parents[1] / "csrc"
    flags = [*FLAGS, f"-I{csrc}", f"-I{csrc / 'include'}"]
    subprocess.run([compiler, *flags, *map(str, sources), "-o", str(output)], check=True)
    return output
