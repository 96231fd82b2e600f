"""What the build and its metadata promise."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest

import splitop
from splitop._src import library

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = pathlib.Path(sys.executable).parent

pytestmark = pytest.mark.skipif(
    not (ROOT / "setup.py").exists(), reason="the sources are not beside the tests"
)


def run(*command: str | pathlib.Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs a command with its output captured."""
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_tensorflow_is_an_extra() -> None:
    always = [
        line for line in importlib.metadata.requires("splitop") or [] if "extra ==" not in line
    ]
    assert always
    assert not any("tensorflow" in line for line in always)
    extras = importlib.metadata.metadata("splitop").get_all("Provides-Extra")
    assert {"cpu", "cuda", "test", "bench", "demo", "dev"} <= set(extras)


def test_typed() -> None:
    assert (pathlib.Path(splitop.__file__).parent / "py.typed").exists()


def test_cmake_says_how_to_get_tensorflow(tmp_path: pathlib.Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    result = run(
        SCRIPTS / "cmake",
        *("-S", ROOT, "-B", tmp_path / "build"),
        f"-DPython_EXECUTABLE={tmp_path / 'bare' / 'bin' / 'python'}",
    )
    assert result.returncode != 0
    assert "No module named 'tensorflow'" in result.stderr
    assert "pip install 'tensorflow-cpu==2.21.*'" in result.stderr
    assert "--no-build-isolation" in result.stderr


# Stands for CMakeLists.txt: compiling takes minutes, and has been done for what is installed here.
INSTALLS_WHAT_IS_BUILT = """
cmake_minimum_required(VERSION 3.20)
project(splitop NONE)
file(GLOB built "{libraries}/*.so" "{libraries}/build_config.json")
install(FILES ${{built}} DESTINATION splitop/lib)
"""


def test_a_wheel_works_from_any_directory(tmp_path: pathlib.Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("*.so", "build_config.json", "__pycache__")
    shutil.copytree(ROOT / "splitop", source / "splitop", ignore=ignore)
    lists = INSTALLS_WHAT_IS_BUILT.format(libraries=library.directory())
    (source / "CMakeLists.txt").write_text(lists)

    built = run(
        *(sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps"),
        *("--wheel-dir", tmp_path, source),
        env={
            **os.environ,
            "SPLITOP_BUILD_DIR": str(tmp_path / "build"),
            "SPLITOP_CMAKE_ARGS": "",
        },
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("splitop-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")

    code = (
        "import pathlib, sys, splitop, splitop.__main__; "
        f"assert pathlib.Path(splitop.__file__).is_relative_to({str(tmp_path)!r}); "
        "sys.exit(splitop.__main__.main(['doctor']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    doctor = run(sys.executable, "-c", code, cwd=tmp_path, env=environment)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
