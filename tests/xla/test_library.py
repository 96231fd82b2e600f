"""Loading the XLA kernels, and what is said where there are none."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any

import keras
import pytest
import tensorflow as tf

import splitop
import splitop.lib
from splitop._src import library
from splitop._src.cli import doctor
from tests.packaging.conftest import CONFIG
from tests.packaging.test_library import REAL_DIRECTORY, run_python

ROOT = pathlib.Path(__file__).resolve().parents[2]

STEP = """
import keras, splitop, tensorflow as tf
kernel, optimizer = tf.Variable(tf.ones([3, 2])), keras.optimizers.SGD(0.5)
@tf.function(jit_compile=True)
def step(x):
    plan = splitop.plan(optimizer, tf.matmul(x, kernel), [kernel])
    plan.apply()
    return len(plan.fused)
"""


def test_after_xla_has_compiled_something_else() -> None:
    code = """
import tensorflow as tf
tf.function(lambda x: x + 1, jit_compile=True)(tf.ones([2]))
"""
    out = run_python(f"{code}{STEP}print(int(step(tf.ones([4, 3]))), kernel.numpy().min())", ROOT)
    assert out.splitlines()[-1] == "1 -1.0"


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Callable[..., None]:
    """Has splitop look for the XLA kernels in a directory that has no such file."""

    def put(**fields: Any) -> None:
        ops = library.load()
        (tmp_path / library.BUILD_CONFIG).write_text(
            json.dumps({**CONFIG, "xla_not_built": None, **fields})
        )
        monkeypatch.setattr(splitop.lib, "__path__", [str(tmp_path)])
        monkeypatch.setattr(library, "_load_from", lambda where: (ops, None))

    return put


def _declined() -> str:
    kernel, optimizer = tf.Variable(tf.ones([3, 2])), keras.optimizers.SGD(0.5)
    plans = []

    @tf.function(jit_compile=True)
    def step(x: Any) -> None:
        plans.append(splitop.plan(optimizer, tf.matmul(x, kernel), [kernel]))
        plans[-1].apply()

    step(tf.ones([4, 3]))
    assert kernel.numpy().tolist() == [[-1.0, -1.0]] * 3
    (reason,) = plans[0].declined.values()
    return reason


def test_missing(without: Callable[..., None]) -> None:
    without()
    reason = library.xla_reason()
    assert reason is not None
    assert "The compiled XLA kernels are missing" in reason
    assert reason.endswith(f"Received: {library.directory() / 'libsplitop_xla.so'}.")
    assert _declined() == f"inside jit_compile=True. {reason}"


def test_not_built(without: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    without(xla_not_built="not found: SPLITOP_TENSORFLOW_CC")
    reason = library.xla_reason()
    assert reason is not None
    assert "-DSPLITOP_XLA=ON" in reason
    assert reason.endswith("Received: not found: SPLITOP_TENSORFLOW_CC.")
    assert splitop.build_info().xla_problem == reason
    assert f"jit_compile:   {reason}" in str(splitop.build_info())
    with pytest.raises(splitop.LibraryError, match="-DSPLITOP_XLA=ON"):
        library.load_xla()
    with pytest.raises(splitop.NotFusableError, match=re.escape(reason)):
        tf.function(
            lambda x, k: splitop.minimize(
                keras.optimizers.SGD(), tf.matmul(x, k), [k], backend="fused"
            ),
            jit_compile=True,
        )(tf.ones([4, 3]), tf.Variable(tf.ones([3, 2])))


def test_no_shared_object(without: Callable[..., None]) -> None:
    without()
    (library.directory() / library.XLA_LIBRARY).write_bytes(b"no shared object")
    reason = library.xla_reason()
    assert reason is not None
    assert "can't be loaded" in reason


def test_without_the_op_library(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(splitop.lib, "__path__", [str(tmp_path)])
    assert library.xla_reason() == library.reason() is not None


def test_a_build_without_it(tmp_path: pathlib.Path) -> None:
    """Trains on the reference path inside, and fused outside."""
    shutil.copytree(
        REAL_DIRECTORY, tmp_path / "lib", ignore=shutil.ignore_patterns("libsplitop_xla.so")
    )
    code = f"{STEP}print(int(step(tf.ones([4, 3]))), kernel.numpy().min())"
    assert run_python(code, ROOT, SPLITOP_LIBRARY_DIR=str(tmp_path / "lib")).endswith("0 -1.0")


def test_doctor_tries_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([]) == 0
    out = capsys.readouterr().out
    assert "jit_compile:   fused on CPUs" in out
    assert "self-test:     ok on CPU:0, jit_compile=True" in out
