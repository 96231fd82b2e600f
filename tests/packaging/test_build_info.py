"""splitop.build_info()."""

from __future__ import annotations

import importlib.metadata
import platform

import numpy as np
import pytest
import tensorflow as tf

import splitop
from splitop._src import backend, library
from splitop._src.errors import SplitError


def test_versions() -> None:
    info = splitop.build_info()
    assert info.splitop == importlib.metadata.version("splitop")
    assert info.python == platform.python_version()
    assert info.numpy == np.__version__
    assert info.tensorflow == info.built_against == tf.__version__
    assert info.keras == tf.keras.__version__


def test_a_usable_library() -> None:
    info = splitop.build_info()
    assert info.library_problem is None
    assert info.library.endswith("libsplitop_ops.so")
    assert info.cpu_isas[0] == "baseline"
    assert info.cpu_isa_in_use in info.cpu_isas


@pytest.mark.parametrize("name", backend.BACKENDS)
def test_backend(name: str) -> None:
    with backend.backend(name):
        info = splitop.build_info()
    assert info.backend == name
    assert info.path == ("reference" if name == "reference" else "fused")


def test_an_unknown_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITOP_BACKEND", "fast")
    with pytest.raises(SplitError, match=r"SPLITOP_BACKEND.*'fast'"):
        splitop.build_info()


@pytest.mark.usefixtures("library_dir")
def test_a_missing_library() -> None:
    info = splitop.build_info()
    assert info.path == "reference"
    assert info.built_against is None
    assert info.library_problem == library.reason()


def test_the_table_has_every_fact() -> None:
    info = splitop.build_info()
    lines = dict(line.split(":", 1) for line in str(info).splitlines())
    assert lines["splitop"].split()[0] == info.splitop
    assert lines["tensorflow"].strip() == info.tensorflow
    assert lines["cpu in use"].strip() == info.cpu_isa_in_use
    assert lines["state"].strip() == "loaded"
    assert "fused" in lines["backend"]
