"""`python -m benchmarks.peers.table RESULTS.json`: a run as text."""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

from benchmarks.peers.results import PEERS, Row, line, load
from benchmarks.table import aligned


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.table", description=__doc__)
    parser.add_argument("json", type=pathlib.Path)
    print(text(*load(parser.parse_args().json)))


def text(conditions: dict[str, Any], rows: list[Row]) -> str:
    """The tables of a run."""
    heads = ["part", "rule", *PEERS, "fastest other / splitop"]
    title = "Milliseconds a step, median (share of the machine's limit)."
    parts = [line(conditions), "", title, ""]
    parts += aligned([heads, *[_cells(row) for row in rows]])
    absent = sorted({f"{peer}: {why}." for row in rows for peer, why in row.absent.items()})
    missing = [f"Not measured: {why}" for why in conditions.get("not_measured", [])]
    return "\n".join([*parts, "", *absent, *missing] if absent or missing else parts)


def _cells(row: Row) -> list[str]:
    other = row.fastest_other
    return [row.part, row.rule, *(_cell(row, peer) for peer in PEERS), f"{row.ratio(other):.2f}"]


def _cell(row: Row, peer: str) -> str:
    if peer not in row.median:
        return "-"
    return f"{row.median[peer]:.3g} ({100 * row.limit / row.median[peer]:.0f}%)"


if __name__ == "__main__":
    main()
