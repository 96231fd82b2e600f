"""The GPU benchmark from end to end without a GPU: on the emulation, and on TensorFlow's CPU."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks.gpu import tables
from benchmarks.gpu.__main__ import NOT_HERE
from benchmarks.gpu.cases import KERNELS, TENSORFLOW, WEIGHTS, select
from benchmarks.gpu.results import Document, Part
from splitop._src import library

ROOT = pathlib.Path(__file__).parents[2]
SUITE = ROOT / "tools" / "gpu_suite.sh"
EMULATED_DIR = os.environ.get("SPLITOP_EMULATED_DIR")
# Without a compiled module there.
NO_LIBRARY = {"SPLITOP_LIBRARY_DIR": str(ROOT / "docs")}


def run(
    path: pathlib.Path, *arguments: str, module: str = "benchmarks.gpu", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, "--json", str(path), *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def measured(result: subprocess.CompletedProcess[str], path: pathlib.Path, part: str) -> Part:
    """What the file has of the part, which ended well."""
    assert result.returncode == 0, result.stdout + result.stderr
    found = Document.load(path).parts[part]
    assert found.failures == found.left_out == []
    assert found.limits.copy > 0
    assert min(found.limits.gemm.values()) > 0
    assert "the times mean nothing" in result.stdout
    return found


@pytest.mark.slow
@pytest.mark.skipif(not EMULATED_DIR, reason="SPLITOP_EMULATED_DIR names no emulated build")
def test_kernels_part_on_the_emulation(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "results.json"
    result = run(path, "--emulated", "--part", KERNELS, SPLITOP_LIBRARY_DIR=str(EMULATED_DIR))
    part = measured(result, path, KERNELS)
    assert [record.case for record in part.records] == select(KERNELS, "tiny")
    for record in part.records:
        for name, outcome in record.results.items():
            assert outcome.times is not None, f"{record.case.name}: {name}: {outcome.note}"
        if record.case.kind == WEIGHTS:
            ways = {"splitop", "tiles", "chunks"}
            ways |= {"accumulate"} if record.case.rule == "sgd" else set()
            assert ways <= record.results.keys()
            assert record.picked in record.expected
            assert ways - {"splitop"} == record.expected.keys()


@pytest.mark.slow
@pytest.mark.skipif(not EMULATED_DIR, reason="SPLITOP_EMULATED_DIR names no emulated build")
def test_tables_on_the_emulation(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "tables.json"
    result = run(
        path, "--emulated", module="benchmarks.gpu.tables", SPLITOP_LIBRARY_DIR=str(EMULATED_DIR)
    )
    assert result.returncode == 0, result.stdout + result.stderr
    document = json.loads(path.read_text())
    assert document["failures"] == []
    records = document["records"]
    assert len(records) == len(tables.cases(tiny=True))
    assert all(outcome["times"] for record in records for outcome in record["results"].values())


@pytest.mark.slow
@pytest.mark.skipif(library.reason() is not None, reason="the op library can't be used")
def test_tensorflow_part_on_its_cpu(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "results.json"
    result = run(path, "--emulated", "--part", TENSORFLOW)
    part = measured(result, path, TENSORFLOW)
    assert [record.case for record in part.records] == select(TENSORFLOW, "tiny")
    for record in part.records:
        for name, outcome in record.results.items():
            assert outcome.times is not None, f"{record.case.name}: {name}: {outcome.note}"


def test_without_a_build_it_says_so(tmp_path: pathlib.Path) -> None:
    result = run(tmp_path / "results.json", "--part", KERNELS, **NO_LIBRARY)
    assert result.returncode == NOT_HERE
    assert "The kernels part can't be measured: " in result.stderr


def suite(tmp_path: pathlib.Path, *parts: str) -> subprocess.CompletedProcess[str]:
    settings = {"PYTHON": sys.executable, "BUILD": str(tmp_path), "LOGS": str(tmp_path / "logs")}
    return subprocess.run(
        [str(SUITE), *parts],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_suite_skips_what_can_not_run_here_and_says_why(tmp_path: pathlib.Path) -> None:
    parts = ("tests", "memcheck", "kernels", "tables")
    result = suite(tmp_path, *parts)
    assert result.returncode == 0, result.stdout + result.stderr
    summary = (tmp_path / "logs" / "summary.txt").read_text()
    assert [line.split()[:2] for line in summary.splitlines()] == [[p, "skipped"] for p in parts]
    assert result.stdout.endswith(summary)
    assert "can't be used" in (tmp_path / "logs" / "tests.log").read_text()


def test_the_suite_knows_its_parts(tmp_path: pathlib.Path) -> None:
    result = suite(tmp_path, "everything")
    assert result.returncode == 2
    assert "Received: everything" in result.stderr
    assert "Parts: build tests " in suite(tmp_path, "--help").stdout
