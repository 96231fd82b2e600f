"""`python -m benchmarks.plot RESULTS.json [PLOT.png]`: the plot of a run, from its JSON alone."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import results
from benchmarks.arguments import json_and_png
from benchmarks.cases import (
    BOTH,
    FUSED,
    FUSED_XLA,
    JOINT,
    KERAS,
    LAZY,
    PLAIN,
    RECOMPUTE,
    REFERENCE,
    STASH,
    XLA,
)
from benchmarks.results import Comparison

LABELS = {
    FUSED: "fused (splitop)",
    LAZY: 'fused, sparse="lazy"',
    REFERENCE: "reference (tf.gradients, TF1 optimizer)",
    KERAS: "Keras",
    XLA: "Keras, jit_compile=True",
    FUSED_XLA: "fused, jit_compile=True",
    STASH: 'splitop, two runs, forward="stash"',
    RECOMPUTE: 'splitop, two runs, "recompute"',
    BOTH: "splitop, one run",
    JOINT: "TensorFlow, unsplit model",
    PLAIN: "TensorFlow, two runs",
}
COLORS = {
    FUSED: "#1f4e8c",
    LAZY: "#7fa8dc",
    REFERENCE: "#f0a03c",
    KERAS: "#9a9a9a",
    XLA: "#5c8a5c",
    FUSED_XLA: "#9cc49c",
    STASH: "#1f4e8c",
    RECOMPUTE: "#4d7ab8",
    BOTH: "#7fa8dc",
    JOINT: "#f0a03c",
    PLAIN: "#9a9a9a",
}
ORDER = tuple(LABELS)


def main() -> None:
    json, png = json_and_png("benchmarks.plot", __doc__)
    save(results.load(json), png)
    print(f"Plot: {png}")


def save(output: dict[str, Any], png: pathlib.Path) -> None:
    """Writes the plot: a panel for each kind of case that the run has."""
    panels = [
        ("Dense layers × width, Adam", results.comparisons(output)),
        ("Embedding table and a dense layer", results.embeddings(output)),
        ("Models of several kinds, Adam", results.models(output)),
        ("Both parts of a model, Adam", results.two_runs(output)),
    ]
    panels = [(title, cases) for title, cases in panels if cases]
    if not panels:
        raise SystemExit("There is nothing to plot: no step was measured.")
    figure = Figure(figsize=(11, 0.6 + 4 * len(panels)), layout="constrained")
    figure.suptitle(
        "The second part's step given the seed, and the step of both parts, float32\n"
        "median step time, the first bar = 1; bar labels: milliseconds; lines: quartiles"
    )
    figure.supxlabel(results.conditions(output), fontsize=8, color="#555555")
    for axes, (title, cases) in zip(
        figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True
    ):
        _draw_panel(axes, cases)
        axes.set_title(title)
    figure.savefig(png, dpi=130)


def _draw_panel(axes: Any, cases: list[Comparison]) -> None:
    paths = [path for path in ORDER if any(path in case.times for case in cases)]
    width = 0.84 / len(paths)
    for number, path in enumerate(paths):
        _draw_path(axes, cases, path, paths[0], number * width, width)
    axes.axhline(1, color=COLORS[paths[0]], linewidth=0.8, linestyle=":", zorder=0)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    names = [case.name.replace("," if "," in case.name else " ", "\n", 1) for case in cases]
    axes.set_xticks([at + 0.42 - width / 2 for at in range(len(cases))], names)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.15)
    axes.legend(frameon=False, fontsize=8, ncols=len(paths))


def _draw_path(
    axes: Any, cases: list[Comparison], path: str, baseline: str, offset: float, width: float
) -> None:
    measured = [(number, case) for number, case in enumerate(cases) if path in case.times]
    unit = np.array([case.times[baseline].median for _, case in measured])
    times = [case.times[path] for _, case in measured]
    low, median, high = np.array([(time.low, time.median, time.high) for time in times]).T
    centres = np.array([number for number, _ in measured]) + offset
    axes.bar(
        centres, median / unit, 0.92 * width, color=COLORS[path], label=LABELS[path], linewidth=0
    )
    error = ((median - low) / unit, (high - median) / unit)
    axes.errorbar(centres, median / unit, error, fmt="none", ecolor="#333333", capsize=2)
    for x, top, value in zip(centres, high / unit, median, strict=True):
        axes.annotate(
            f"{value:.3g}", (x, top), (0, 3), textcoords="offset points", ha="center", fontsize=7
        )


if __name__ == "__main__":
    main()
