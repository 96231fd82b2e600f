"""`python -m benchmarks.plot RESULTS.json [PLOT.png]`: the plot of a run, from its JSON alone."""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import results
from benchmarks.cases import FUSED, KERAS, REFERENCE
from benchmarks.results import Comparison

LABELS = {
    REFERENCE: "reference (tf.gradients, TF1 Adam op)",
    FUSED: "fused (splitop)",
    KERAS: "Keras Adam",
}
COLORS = {REFERENCE: "#f0a03c", FUSED: "#1f4e8c", KERAS: "#9a9a9a"}
ORDER = (FUSED, REFERENCE, KERAS)
BAR = 0.8 / len(ORDER)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("json", type=pathlib.Path)
    parser.add_argument("png", type=pathlib.Path, nargs="?", help="default: beside the JSON")
    arguments = parser.parse_args()
    png = arguments.png or arguments.json.with_suffix(".png")
    save(results.load(arguments.json), png)
    print(f"Plot: {png}")


def save(output: dict[str, Any], png: pathlib.Path) -> None:
    """Writes the plot."""
    cases = results.comparisons(output)
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    figure.suptitle("The second part's step given the seed: dense layers, float32, Adam")
    axes = figure.subplots()
    axes.set_title(results.conditions(output), fontsize=8, color="#555555")
    for number, path in enumerate(ORDER):
        _draw_path(axes, cases, path, (number - 1) * BAR)
    _draw_targets(axes, cases)
    axes.axhline(1, color=COLORS[FUSED], linewidth=0.8, linestyle=":", zorder=0)
    axes.set_ylabel("median step time, fused = 1\n(bar labels: milliseconds)")
    names = [case.name.replace("x", " × ").replace(" b", "\nbatch ") for case in cases]
    axes.set_xticks(range(len(cases)), names)
    axes.set_xlabel("layers × width")
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.1)
    axes.legend(frameon=False)
    figure.savefig(png, dpi=150)


def _draw_path(axes: Any, cases: list[Comparison], path: str, offset: float) -> None:
    fused = np.array([case.times[FUSED].median for case in cases])
    low, median, high = np.array(
        [(time.low, time.median, time.high) for time in (case.times[path] for case in cases)]
    ).T
    centres = np.arange(len(cases)) + offset
    axes.bar(centres, median / fused, 0.92 * BAR, color=COLORS[path], label=LABELS[path])
    error = ((median - low) / fused, (high - median) / fused)
    axes.errorbar(centres, median / fused, error, fmt="none", ecolor="#333333", capsize=3)
    for x, top, value in zip(centres, high / fused, median, strict=True):
        axes.annotate(
            f"{value:.3g}", (x, top), (0, 4), textcoords="offset points", ha="center", fontsize=9
        )


def _draw_targets(axes: Any, cases: list[Comparison]) -> None:
    marks = [
        (index + (ORDER.index(path) - 1) * BAR, target)
        for index, case in enumerate(cases)
        for path, target in case.target.items()
    ]
    if marks:
        centres, targets = np.array(marks).T
        axes.hlines(
            targets, centres - BAR / 2, centres + BAR / 2, color="#b02020", label="ratio to reach"
        )


if __name__ == "__main__":
    main()
