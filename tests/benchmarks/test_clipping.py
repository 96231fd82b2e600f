"""The benchmark of clipped steps, with a part that takes no time."""

from __future__ import annotations

import pytest

from benchmarks import clipping, second_parts


def test_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(clipping, "PARTS", {"mlp": (second_parts.mlp(5, [7, 3]), 2)})
    monkeypatch.setattr(clipping, "ROUNDS", 2)
    monkeypatch.setattr("sys.argv", ["clipping"])
    clipping.main()
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[-2:] == ["loss", "scale"]
    name, *cells = row.split("  ")
    assert name == "mlp"
    numbers = [list(map(float, cell.split(", "))) for cell in cells if cell]
    assert len(numbers) == len(clipping.OPTIMIZERS)
    for fused, keras, ratio in numbers:
        assert ratio == pytest.approx(keras / fused, rel=0.05)
