"""Builds the compiled libraries with CMake; all metadata is in pyproject.toml."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import sysconfig

import setuptools
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import ExecError

ROOT = pathlib.Path(__file__).resolve().parent

NO_TENSORFLOW = """\
TensorFlow is missing in the Python that builds splitop ({python}).
splitop is compiled against the TensorFlow that it will run with, so install that first:
    pip install 'tensorflow-cpu==2.21.*'         # or 'tensorflow[and-cuda]==2.21.*' for GPUs
    pip install 'setuptools>=77' pybind11 cmake ninja
    pip install --no-build-isolation .
Without --no-build-isolation pip builds in an environment that has no TensorFlow.
SPLITOP_CMAKE_ARGS=-DSPLITOP_TENSORFLOW=OFF builds the kernels only."""


def find_tool(name: str) -> str | None:
    """Finds an executable, first among the scripts of this Python's environment."""
    directories = sysconfig.get_path("scripts") + os.pathsep + os.environ.get("PATH", "")
    return shutil.which(name, path=directories)


class CMakeExtension(Extension):
    """All the compiled libraries, built by one CMake project."""

    def __init__(self, name: str) -> None:
        super().__init__(name, sources=[])


class CMakeBuild(build_ext):
    """Runs CMake, and installs what it built into the package.

    Environment variables:
        SPLITOP_BUILD_DIR: Where CMake builds; `build/cmake-<python>` if not set.
        SPLITOP_CMAKE_ARGS: More arguments for CMake's configure step.
    """

    def run(self) -> None:
        arguments = shlex.split(os.environ.get("SPLITOP_CMAKE_ARGS", ""))
        self.check_tensorflow(arguments)
        build_dir = pathlib.Path(
            os.environ.get("SPLITOP_BUILD_DIR")
            or ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        )
        # Tools and TensorFlow may have moved since the last build; objects are kept.
        (build_dir / "CMakeCache.txt").unlink(missing_ok=True)

        prefix = ROOT if self.inplace else pathlib.Path(self.build_lib).resolve()
        self.cmake(
            "-S",
            str(ROOT),
            "-B",
            str(build_dir),
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_INSTALL_PREFIX={prefix}",
            *self.generator(),
            *arguments,
        )
        jobs = [] if "CMAKE_BUILD_PARALLEL_LEVEL" in os.environ else [str(os.cpu_count() or 1)]
        self.cmake("--build", str(build_dir), "--target", "install", "--parallel", *jobs)

    def check_tensorflow(self, arguments: list[str]) -> None:
        """Says what is missing before CMake does, in one message."""
        if "-DSPLITOP_TENSORFLOW=OFF" in arguments:
            return
        if importlib.util.find_spec("tensorflow") is None:
            raise ExecError(NO_TENSORFLOW.format(python=sys.executable))

    def generator(self) -> list[str]:
        """CMake arguments that choose Ninja where it is installed."""
        ninja = find_tool("ninja")
        if ninja is None or "CMAKE_GENERATOR" in os.environ:
            return []
        return ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]

    def cmake(self, *arguments: str) -> None:
        cmake = find_tool("cmake")
        if cmake is None:
            raise ExecError("CMake is missing: pip install cmake.")
        try:
            subprocess.run([cmake, *arguments], check=True)
        except subprocess.CalledProcessError as error:
            raise ExecError(
                f"CMake failed with status {error.returncode}; its messages are above."
            ) from None

    # CMake's install step has already put every file in its place.
    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


if int(setuptools.__version__.split(".")[0]) < 77:  # pyproject.toml has an SPDX license
    raise SystemExit(
        "splitop needs setuptools 77 or newer to build: pip install --upgrade setuptools. "
        f"Received: setuptools {setuptools.__version__}."
    )

setup(
    ext_modules=[CMakeExtension("splitop.lib._kernels")],
    cmdclass={"build_ext": CMakeBuild},
)
