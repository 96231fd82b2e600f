"""A library directory of the test's own, in place of splitop/lib."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable

import pytest

import splitop.lib
from splitop._src import library

CONFIG = {
    "splitop": "0.1.0",
    "tensorflow": "2.21.0",
    "compiler": "GNU 12.2.0",
    "build_type": "Release",
    "commit": None,
    "isas": ["baseline"],
    "sanitize": "",
    "cuda": "13.0",
    "cuda_architectures": ["sm_80", "sm_90", "compute_90"],
    "cuda_not_built": None,
    "ops": library.hash_of_ops(),
}


@pytest.fixture
def emulated_dir() -> pathlib.Path:
    """Libraries whose CUDA kernels, runtime and driver are emulated on the CPU."""
    path = os.environ.get("SPLITOP_EMULATED_DIR")
    if not path:
        pytest.skip("SPLITOP_EMULATED_DIR is not set: make test sets it, make emulate builds there")
    return pathlib.Path(path)


@pytest.fixture
def library_dir(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty directory that splitop looks for its libraries in."""
    monkeypatch.setattr(splitop.lib, "__path__", [str(tmp_path)])
    return tmp_path


@pytest.fixture
def write_config(library_dir: pathlib.Path) -> Callable[..., None]:
    """Writes build_config.json into `library_dir`, with some fields changed."""

    def write(**fields: object) -> None:
        (library_dir / library.BUILD_CONFIG).write_text(json.dumps({**CONFIG, **fields}))

    return write


@pytest.fixture
def garbage(library_dir: pathlib.Path) -> pathlib.Path:
    """A file in the library's place that is none."""
    path = library_dir / library.OPS_LIBRARY
    path.write_bytes(b"no shared object")
    return path
