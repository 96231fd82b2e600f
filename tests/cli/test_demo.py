"""`python -m splitop demo`."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from splitop import __main__
from splitop._src import library
from splitop._src.cli import demo, digits
from splitop._src.cli.digits import Images

ROOT = pathlib.Path(__file__).parents[2]

needs_library = pytest.mark.skipif(library.reason() is not None, reason=str(library.reason()))


def noise(count: int, seed: int) -> Images:
    random = np.random.default_rng(seed)
    pixels = random.random((count, 784), np.float32)
    return Images(pixels, np.arange(count, dtype=np.int64) % 10)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Less of everything, in an empty folder."""
    for name in ("mlxtend", "matplotlib"):
        pytest.importorskip(name)
    monkeypatch.setattr(digits, "load", lambda: (noise(50, 0), noise(20, 1)))
    monkeypatch.setattr(demo, "TIMED_STEPS", 3)
    monkeypatch.chdir(tmp_path)


def is_png(path: pathlib.Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG\r\n") and path.stat().st_size > 10_000


def without_the_log_of_tensorflow(text: str) -> list[str]:
    """The lines without those that TensorFlow logs on some processors when it is imported."""
    logged = re.compile(r"[IW]\d{4} |WARNING: All log messages before absl::InitializeLog")
    return [line for line in text.splitlines() if not logged.match(line)]


@needs_library
@pytest.mark.slow
def test_trains_digits_in_two_parts(tmp_path: pathlib.Path) -> None:
    for name in ("mlxtend", "matplotlib"):
        pytest.importorskip(name)
    result = subprocess.run(
        [sys.executable, "-m", "splitop", "demo", "--epochs", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert without_the_log_of_tensorflow(result.stderr) == []
    for expected in (
        "4,000 to train on, 1,000 to test",
        "second_part/dense_0/kernel:0",
        "4 of 4 variables are fused",
        "first_part/logits/bias:0",
        "2 of 2 variables are fused",
        "Training on the fused path",
        "Training on the reference path",
        "Largest difference between the two runs' weights: ",
        "times as fast on the fused path",
        f"Plot: {tmp_path / 'splitop-demo.png'}",
    ):
        assert expected in result.stdout
    accuracies = [
        float(line.split()[-1].rstrip("%"))
        for line in result.stdout.splitlines()
        if line.startswith("Test accuracy: ") and "fused" not in line
    ]
    assert len(accuracies) == 2
    assert min(accuracies) > 80
    assert is_png(tmp_path / "splitop-demo.png")


@needs_library
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("optimizer", demo.LEARNING_RATES)
def test_every_optimizer(optimizer: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--optimizer", optimizer, "--epochs", "2", "--batch-size", "20", "--seed", "3"]
    assert demo.main([*arguments, "--backend", "fused", "--plot", "here.png"]) == 0
    output = capsys.readouterr().out
    assert "Training on the fused path" in output
    assert output.count("Epoch 2/2") == 2
    assert output.count("loss: ") == 4
    assert is_png(pathlib.Path("here.png"))


@needs_library
def test_both_paths_train_alike() -> None:
    settings = demo.Settings(1, 20, "adam", 1e-3, None, seed=0)
    models = {path: demo._model(settings, path) for path in ("fused", "reference")}
    models["reference"].set_weights(models["fused"].weights())
    results = {
        path: demo.train(model, settings, noise(50, 0), noise(20, 1))
        for path, model in models.items()
    }
    fused, reference = results["fused"], results["reference"]
    assert len(fused.losses) == 3
    np.testing.assert_allclose(fused.losses, reference.losses, rtol=1e-3)
    assert fused.weights.keys() == reference.weights.keys()
    for path, model in models.items():
        node_types = {op.type for op in model.graph.get_operations()}
        assert ("Splitop>DenseChain" in node_types) == (path == "fused")
        model.close()


@pytest.mark.usefixtures("small")
def test_reference_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--backend", "reference", "--epochs", "1"]) == 0
    output = capsys.readouterr().out
    assert 'Only the reference path is shown: the backend is "reference".' in output
    assert "0 of 4 variables are fused" in output
    assert "times as fast" not in output
    assert is_png(pathlib.Path("splitop-demo.png"))


@pytest.mark.usefixtures("small")
def test_without_the_library_it_trains_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(library, "reason", lambda: "The compiled library is missing.")
    assert demo.main(["--epochs", "1", "--no-plot"]) == 0
    output = capsys.readouterr().out
    assert "Only the reference path is shown: The compiled library is missing." in output
    assert "Test accuracy: " in output
    assert not pathlib.Path("splitop-demo.png").exists()


@pytest.mark.usefixtures("small")
def test_fused_without_the_library_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(library, "reason", lambda: "The compiled library is missing.")
    monkeypatch.setattr(library, "warn_once", lambda: None)
    assert demo.main(["--backend", "fused", "--no-plot"]) == 1
    assert "The compiled library is missing." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: must be a positive whole number. Received: '0'."),
        (["--epochs", "two"], "must be a positive whole number. Received: 'two'."),
        (["--batch-size", "-1"], "argument --batch-size: must be a positive whole number."),
        (["--learning-rate", "nan"], "argument --learning-rate: must be a positive number."),
        (["--learning-rate", "inf"], "must be a positive number. Received: 'inf'."),
        (["--optimizer", "lion"], "argument --optimizer: invalid choice: 'lion'"),
        (["--backend", "gpu"], "argument --backend: invalid choice: 'gpu'"),
        (["--seed", "-1"], "argument --seed: must be a whole number from 0 to 2147483647."),
        (["--plot", "plot.gif"], "argument --plot: must end in .png. Received: 'plot.gif'."),
        (["--plot", "nowhere/a.png"], "must be in a folder that exists."),
        (["--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_bad_options(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        __main__.main(["demo", *arguments])
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_bad_backend_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPLITOP_BACKEND", "gpu")
    monkeypatch.setattr(digits, "load", lambda: (noise(50, 0), noise(20, 1)))
    assert demo.main(["--no-plot"]) == 1
    assert "SPLITOP_BACKEND must be one of" in capsys.readouterr().err


def test_help_shows_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        __main__.main(["demo", "--help"])
    assert exit_info.value.code == 0
    output = capsys.readouterr().out
    for option in ("--epochs", "--batch-size", "--optimizer", "--learning-rate", "--backend"):
        assert option in output
    for option in ("--seed", "--plot", "--no-plot"):
        assert option in output


def test_a_missing_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert demo.main([]) == 1
    message = capsys.readouterr().err
    assert "pip install 'splitop[demo]'" in message
    assert message.endswith("Received: no mlxtend, no matplotlib.\n")


def test_split_is_fixed_and_in_equal_shares() -> None:
    images = noise(50, 0)
    train, test = digits.split(images, np.random.default_rng(digits.SPLIT_SEED))
    again, _ = digits.split(images, np.random.default_rng(digits.SPLIT_SEED))
    np.testing.assert_array_equal(train.pixels, again.pixels)
    assert (len(train), len(test)) == (40, 10)
    assert (np.bincount(train.labels) == 4).all()
    together = np.concatenate([train.pixels, test.pixels])
    assert len(np.unique(together, axis=0)) == 50


def test_batches_hold_every_image_once() -> None:
    batches = list(noise(50, 0).batches(20, np.random.default_rng(0)))
    assert [len(batch) for batch in batches] == [20, 20, 10]
    pixels = np.concatenate([batch.pixels for batch in batches])
    assert len(np.unique(pixels, axis=0)) == 50
