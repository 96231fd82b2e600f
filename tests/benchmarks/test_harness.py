"""The benchmarks run, on tiny cases, and their JSON makes tables and plots."""

from __future__ import annotations

import copy
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from splitop._src import library

pytest.importorskip("pytest_benchmark")
pytest.importorskip("matplotlib")

from benchmarks import __main__, plot, results, table
from benchmarks.cases import (
    CASES,
    FUSED,
    KERAS,
    LAZY,
    PATHS,
    QUICK_CASES,
    QUICK_EMBEDDING_CASES,
    QUICK_MODEL_CASES,
    QUICK_TABLE_CASES,
    QUICK_TWO_RUN_CASES,
    REFERENCE,
    TWO_RUN_PATHS,
)
from benchmarks.interleave import WARM_STEPS, interleave, warm_up

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The JSON of a quick run, and what it printed."""
    if library.reason() is not None:
        pytest.skip(str(library.reason()))
    json = tmp_path_factory.mktemp("benchmarks") / "quick.json"
    # pytest-benchmark measures nothing where it finds itself in a parallel run.
    environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json", str(json)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    output = results.load(json)
    assert table.text(output) in result.stdout
    return output


def test_quick_run_measures_every_path(quick: dict[str, Any]) -> None:
    measured = results.comparisons(quick)
    assert [case.name for case in measured] == [case.name for case in QUICK_CASES]
    for case, given in zip(measured, QUICK_CASES, strict=True):
        assert set(case.times) == set(PATHS)
        assert all(0 < time.low <= time.median <= time.high for time in case.times.values())
        assert quick["ratios"][case.name] == case.ratio
        rounds = [item["stats"]["rounds"] for item in quick["benchmarks"]]
        assert set(rounds) == {given.rounds}
    assert len(results.kernels(quick)) == len(QUICK_CASES)
    assert len(results.tables(quick)) == len(QUICK_TABLE_CASES)
    embeddings = results.embeddings(quick)
    assert [tuple(case.times) for case in embeddings] == [
        case.paths for case in QUICK_EMBEDDING_CASES
    ]
    assert embeddings[1].ratio.keys() == {*PATHS, LAZY} - {KERAS}
    models = results.models(quick)
    assert [case.name for case in models] == [case.name for case in QUICK_MODEL_CASES]
    assert all(case.ratio.keys() == set(PATHS) - {FUSED} for case in models)
    two_runs = results.two_runs(quick)
    assert [case.name for case in two_runs] == [case.name for case in QUICK_TWO_RUN_CASES]
    assert all(case.times.keys() == set(TWO_RUN_PATHS) for case in two_runs)


def test_json_says_where_it_comes_from(quick: dict[str, Any]) -> None:
    assert set(quick["commit_info"]) == {"id", "time", "dirty"}
    machine = quick["machine_info"]
    for fact in ("cpu", "cores", "isa", "tensorflow", "keras", "numpy", "python", "splitop"):
        assert machine[fact]
    assert "node" not in machine


def test_targets_reached_and_missed(quick: dict[str, Any], tmp_path: pathlib.Path) -> None:
    output = copy.deepcopy(quick)
    for item in output["benchmarks"]:
        if item["group"].startswith(results.SECOND_PART):
            item["extra_info"]["target"] = {REFERENCE: 0.001, KERAS: 1e6}
    text = table.text(output)
    assert text.count("(0.0)") == len(QUICK_CASES)
    assert text.count("missed)") == len(QUICK_CASES)
    plot.save(output, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_unknown_case_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        __main__.main(["--quick", "--case", "9x9 b9"])
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert "--case must be one of ['2x33 b8', '1x16 b1', '50x3 30 ids sgd', " in error
    assert "Received: ['9x9 b9']." in error


def test_interleave_runs_each_step_once_a_round_and_shifts_the_order() -> None:
    order: list[str] = []
    steps = {name: lambda name=name: order.append(name) for name in "abc"}
    seconds = interleave(steps, 4)
    assert "".join(order) == "abcbcacababc"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 4, "b": 4, "c": 4}


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 1), (60.0, WARM_STEPS)])
def test_warming_up_runs_all_steps_equally_often(seconds: float, rounds: int) -> None:
    order: list[str] = []
    warm_up([lambda name=name: order.append(name) for name in "ab"], seconds)
    assert "".join(order) == "ab" * rounds


def test_cases_have_the_targets_of_the_four_shapes() -> None:
    assert {case.name: tuple(case.target.values()) for case in CASES} == {
        "4x1024 b128": (1.6, 2.5),
        "2x4096 b32": (2.2, 5.0),
        "3x256 b64": (1.5, 1.6),
        "4x1024 b1024": (1.0, 1.0),
    }
