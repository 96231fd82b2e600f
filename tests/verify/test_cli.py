"""`python -m splitop verify module:function`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitop import __main__

MODULE = """
import keras, splitop
from tests.verify import models

def good():
    parts = dict(second_part=models.second_part(), first_part=models.first_part())
    return dict(**parts, loss=models.LOSS, steps=1, **models.batch(), **models.optimizers())

def bad():
    optimizer = keras.optimizers.SGD()
    return {**good(), "first_optimizer": optimizer, "second_optimizer": optimizer}

def report():
    return splitop.verify(**good())

def wrong():
    return {**good(), "steps": 0}

def unknown():
    return {**good(), "step": 0}

def number():
    return 3

def fails():
    raise RuntimeError("out of paper")

class Namespace:
    good = staticmethod(good)

constant = 5
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "to_verify.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import no_such_package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("to_verify", None)


@pytest.mark.parametrize("function", ["good", "report", "Namespace.good"])
def test_all_is_well(function: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["verify", f"to_verify:{function}"]) == 0
    output = capsys.readouterr().out
    assert "1 step: ok" in output
    assert "low/kernel" in output


def test_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["verify", "to_verify:bad"]) == 1
    assert "FAILED (1 error)" in capsys.readouterr().out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["verify", "--json", "to_verify:good"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ok"] is True
    assert data["updates"][0]["name"] == "low/kernel"
    assert {"findings", "gradients", "fused", "updated", "declined"} <= data.keys()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("to_verify", "module:function. Received: 'to_verify'"),
        ("to_verify:", "module:function"),
        ("no_such_module:good", "'no_such_module' can't be imported"),
        ("broken:good", "no_such_package"),
        ("to_verify:nothing", "has no function 'nothing'"),
        ("to_verify:constant", "must be a function. Received: int"),
        ("to_verify:number", "must return a dictionary"),
        ("to_verify:wrong", "steps must be a whole number"),
        ("to_verify:unknown", "unexpected keyword argument 'step'"),
        ("to_verify:fails", "RuntimeError('out of paper')"),
    ],
)
def test_bad_usage(target: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        __main__.main(["verify", target])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_command_itself(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text("def nothing():\n    return {}\n")
    command = [sys.executable, "-m", "splitop", "verify", "small:nothing"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "first_optimizer must be given" in done.stderr
