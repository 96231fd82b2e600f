"""The demo's plot: loss of both paths, and how long their steps take."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# The fused path is drawn last, thin and dashed, so that the reference shows through.
STYLES = {
    "reference": {"color": "#f0a03c", "linewidth": 3.5},
    "fused": {"color": "#1f4e8c", "linewidth": 1.3, "linestyle": (0, (4, 2))},
}
RUNS = ("first run\n(train_first, iv_gradients)", "second run\n(train_second)")
GRAY = "#555555"


def save(
    path: pathlib.Path,
    losses: Mapping[str, Sequence[float]],
    seconds: Mapping[str, np.ndarray],
    title: str,
) -> None:
    """Writes the plot.

    Args:
        path: The PNG to write.
        losses: For each path ("reference", "fused"), the loss of each step.
        seconds: For each path, how long steps took: [steps, 2], first run and second run.
        title: What was trained.

    Raises:
        OSError: The file can't be written.
    """
    # Not pyplot: it would choose a backend for the whole process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    figure.suptitle(title, fontsize=12)
    left, right = figure.subplots(1, 2, width_ratios=[1.2, 1])
    paths = [path for path in STYLES if path in losses]
    _draw_losses(left, {path: losses[path] for path in paths})
    _draw_times(right, {path: seconds[path] * 1e3 for path in paths})
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
    figure.savefig(path, dpi=150)


def _draw_losses(axes: Any, losses: Mapping[str, Sequence[float]]) -> None:
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    for name, values in losses.items():
        axes.plot(range(1, len(values) + 1), values, label=name, **STYLES[name])
    axes.set_title("Loss of each batch", fontsize=11)
    axes.set_xlabel("step")
    axes.set_ylabel("cross-entropy loss (nats, log scale)")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(title="path", frameon=False)


def _draw_times(axes: Any, milliseconds: Mapping[str, np.ndarray]) -> None:
    width = 0.8 / len(milliseconds)
    for number, (name, times) in enumerate(milliseconds.items()):
        centres = np.arange(len(RUNS)) + (number - (len(milliseconds) - 1) / 2) * width
        low, median, high = np.percentile(times, [25, 50, 75], axis=0)
        axes.bar(centres, median, 0.9 * width, color=STYLES[name]["color"])
        axes.errorbar(
            centres, median, (median - low, high - median), fmt="none", ecolor=GRAY, capsize=4
        )
        for x, value, top in zip(centres, median, high, strict=True):
            axes.annotate(f"{value:.2f}", (x, top), (0, 4), textcoords="offset points", ha="center")
    axes.set_title(f"Step time (median and quartiles of {len(times)} steps)", fontsize=11)
    axes.set_ylabel("time (ms)")
    axes.set_xticks(range(len(RUNS)), RUNS)
    axes.tick_params(axis="x", length=0)
    axes.margins(y=0.12)
