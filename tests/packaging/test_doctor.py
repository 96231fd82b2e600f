"""`python -m splitop doctor` and the command line around it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from splitop import __main__
from splitop._src import library
from splitop._src.cli import doctor


def fake_training(fused_error: float) -> Any:
    """A stand-in for doctor._train whose paths differ by what is given."""

    def train(path: str, dtype: Any, device: str, jit: bool = False) -> dict[str, np.ndarray]:
        error = fused_error if path == "fused" else 0.0
        return {"kernel_0": np.full((2, 3), 1 + error, dtype)}

    return train


def test_all_is_well(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    logger = tf.get_logger()
    logger.addHandler(caplog.handler)
    try:
        assert __main__.main(["doctor"]) == 0
    finally:
        logger.removeHandler(caplog.handler)
    output = capsys.readouterr().out
    assert "state:         loaded" in output
    assert "self-test:     ok on CPU:0" in output
    assert "retracing" not in caplog.text


@pytest.mark.usefixtures("library_dir")
def test_a_missing_library(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert f"Not well: {library.reason()}" in output
    assert "self-test" not in output


@pytest.mark.usefixtures("library_dir")
def test_missing_tensorflow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert __main__.main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert "tensorflow:    missing" in output
    assert "Not well: TensorFlow can't be imported." in output


def test_an_unknown_backend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPLITOP_BACKEND", "fast")
    assert __main__.main(["doctor"]) == 1
    assert "SPLITOP_BACKEND" in capsys.readouterr().out


def test_a_wrong_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_train", fake_training(1e-3))
    problem = doctor.self_test("CPU:0")
    assert problem is not None
    assert "do not agree" in problem
    assert "on CPU:0, kernel_0 differs by 0.001" in problem


def test_a_result_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_train", fake_training(float("nan")))
    assert "do not agree" in str(doctor.self_test("CPU:0"))


def test_a_result_within_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_train", fake_training(2.0**-22))
    assert doctor.self_test("CPU:0") is None


def test_a_failing_op(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str, dtype: Any, device: str, jit: bool = False) -> dict[str, np.ndarray]:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(doctor, "_train", fail)
    assert "no such kernel" in str(doctor.self_test("CPU:0"))


def test_float32_products_are_not_rounded_to_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = []

    def train(path: str, dtype: Any, device: str, jit: bool = False) -> dict[str, np.ndarray]:
        allowed.append(tf.config.experimental.tensor_float_32_execution_enabled())
        return {}

    monkeypatch.setattr(doctor, "_train", train)
    assert doctor.self_test("GPU:0") is None
    assert allowed == [False] * 3
    assert tf.config.experimental.tensor_float_32_execution_enabled()


@pytest.mark.parametrize(
    ("gpus", "reason", "devices"),
    [
        ([], None, ["CPU:0"]),
        (["a"], "The driver is too old.", ["CPU:0"]),
        (["a", "b"], None, ["CPU:0", "GPU:0"]),
    ],
)
def test_a_gpu_that_both_can_use_is_tested(
    gpus: list[str],
    reason: str | None,
    devices: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(library, "cuda_reason", lambda: reason)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(doctor, "self_test", lambda device, jit: f"{device} is bad")
    assert doctor.devices() == devices
    assert __main__.main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert [f"Not well: {device} is bad" in output for device in ("CPU:0", "GPU:0")] == [
        device in devices for device in ("CPU:0", "GPU:0")
    ]


@pytest.mark.parametrize("argv", [[], ["dcotor"], ["doctor", "--fast"]])
def test_a_bad_command_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        __main__.main(argv)
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.mark.parametrize(("argv", "text"), [(["--help"], "demo"), (["doctor", "-h"], "usage")])
def test_help(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        __main__.main(argv)
    assert stop.value.code == 0
    assert text in capsys.readouterr().out
