"""`python -m benchmarks.peers.plot RESULTS.json [PLOT.png]`: the plot of a run."""

from __future__ import annotations

import pathlib
from typing import Any

from matplotlib.figure import Figure

from benchmarks.arguments import json_and_png
from benchmarks.peers.results import PEERS, SPLITOP, Row, line, load

COLORS = ("#1f4e8c", "#7fa8dc", "#f0a03c", "#9a9a9a", "#5c8a5c", "#c0392b", "#e08a80", "#8e5bb0")


def main() -> None:
    json, png = json_and_png("benchmarks.peers.plot", __doc__)
    save(*load(json), png)
    print(f"Plot: {png}")


def save(conditions: dict[str, Any], rows: list[Row], png: pathlib.Path) -> None:
    """Writes the plot: a dot a peer, one line of dots for each part and rule."""
    figure = Figure(figsize=(10, 1.8 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    figure.suptitle("The second part's step given the seed, float32: time divided by splitop's")
    figure.supxlabel(line(conditions), fontsize=7, color="#555555", wrap=True)
    for peer, color in zip(PEERS, COLORS, strict=True):
        measured = [(row.ratio(peer), at) for at, row in enumerate(rows) if peer in row.median]
        size = 60 if peer == SPLITOP else 28
        x, y = zip(*measured, strict=True) if measured else ((), ())
        axes.scatter(x, y, s=size, color=color, label=peer, zorder=2)
    axes.axvline(1, color=COLORS[0], linewidth=0.8, linestyle=":", zorder=0)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=8)
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.grid(axis="y", linewidth=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(png, dpi=130)


if __name__ == "__main__":
    main()
