"""A library directory of the test's own, in place of splitop/lib."""

from __future__ import annotations

import json
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
}


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
