"""`python -m benchmarks.gpu.plot RESULTS.json [PLOT.png]`: the plot of a run, from its JSON."""

from __future__ import annotations

import pathlib
from typing import Any

from matplotlib.figure import Figure

from benchmarks.arguments import json_and_png
from benchmarks.gpu.cases import PRECISIONS, RULES, STEP, WEIGHTS
from benchmarks.gpu.results import Document, Record
from benchmarks.gpu.targets import SHARE, SPLITOP

COLORS = dict(zip(RULES, ("#1f4e8c", "#f0a03c", "#9a9a9a", "#3c8c5a"), strict=True))


def main() -> None:
    json, png = json_and_png("benchmarks.gpu.plot", __doc__)
    save(Document.load(json), png)
    print(f"Plot: {png}")


def save(document: Document, png: pathlib.Path) -> None:
    """Writes the plot: shares of the limit above, ratios to the others below."""
    records = [record for part in document.parts.values() for record in part.records]
    emulated = any(part.machine.get("emulated") for part in document.parts.values())
    figure = Figure(figsize=(12, 8), layout="constrained")
    figure.suptitle(f"{document.device}{' (EMULATED: the times mean nothing)' if emulated else ''}")
    halves: Any = figure.subfigures(2, 1)
    upper, lower = halves
    upper.suptitle("weight gradient and update of one layer: splitop's share of the measured limit")
    for axes, precision in zip(
        upper.subplots(1, len(PRECISIONS), sharey=True), PRECISIONS, strict=True
    ):
        _draw_shares(axes, precision, [r for r in records if r.case.precision == precision])
    lower.suptitle("the second part's step: how many times as long the others take")
    _draw_ratios(lower.subplots(), [record for record in records if record.case.kind == STEP])
    figure.savefig(png, dpi=150)


def _draw_shares(axes: Any, precision: str, records: list[Record]) -> None:
    axes.set_title(precision)
    for rule, color in COLORS.items():
        points = [
            (record.case.batch, 100 * share, record.case.width)
            for record in records
            if record.case.kind == WEIGHTS and record.case.rule == rule
            if (share := record.share_of_floor(SPLITOP)) is not None
        ]
        if points:
            batches, shares, widths = zip(*points, strict=True)
            axes.scatter(batches, shares, [width / 64 for width in widths], color, label=rule)
    axes.axhline(100 * SHARE, color="#b02020", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_ylim(0, 110)
    axes.set_xlabel("batch (large dots: wide layers)")
    axes.set_ylabel("% of the limit")
    if axes.has_data() and axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def _draw_ratios(axes: Any, records: list[Record]) -> None:
    names = list(dict.fromkeys(n for r in records for n in r.results if n != SPLITOP))
    for place, name in enumerate(names):
        for shift, precision in enumerate(PRECISIONS):
            ratios = [
                ratio
                for record in records
                if record.case.precision == precision
                if (ratio := record.ratio(name, SPLITOP)) is not None
            ]
            at = place + (shift - 1) * 0.25
            axes.scatter([at] * len(ratios), ratios, 16, f"C{shift}", label=precision)
    axes.axhline(1, color="#333333", linewidth=0.8)
    axes.set_yscale("log", base=2)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("times as long as splitop")
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        unique = dict(zip(labels, handles, strict=True))
        axes.legend(unique.values(), unique.keys(), frameon=False)


if __name__ == "__main__":
    main()
