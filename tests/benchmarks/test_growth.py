"""The benchmark of growth, with sizes that take no time."""

from __future__ import annotations

import pytest

from benchmarks import growth
from benchmarks.cases import FUSED, Case, EmbeddingCase


def test_prints_its_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [EmbeddingCase(rows, 3, 4, 8, 5, "Adam", 2) for rows in (10, 20)]
    monkeypatch.setattr(growth, "DENSE", [Case(1, width, 2, rounds=2) for width in (3, 5)])
    monkeypatch.setattr(growth, "TABLES", small)
    monkeypatch.setattr(growth, "LONG", {"dense": Case(1, 3, 2, rounds=0), "table": small[0]})
    monkeypatch.setattr(growth, "LONG_STEPS", (1, 3))
    monkeypatch.setattr(growth, "peaks", lambda: iter([["peak", "MiB"], [FUSED, "0"]]))
    monkeypatch.setattr("sys.argv", ["growth"])
    growth.main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert len(lines) == 3 + 3 + 3 + 2
    assert lines[1][:3] == ["1x3", "b2", "12"]
    assert all(float(line[-1]) >= 0 for line in lines[1:3] + lines[7:9])


def test_a_peak_is_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "PEAK", Case(1, 8, 2, rounds=0))
    peak = growth._peak(FUSED)
    assert abs(peak - growth._status("VmRSS")) < 64 * growth.MIB
