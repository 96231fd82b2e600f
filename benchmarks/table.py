"""`python -m benchmarks.table RESULTS.json`: medians and ratios as text."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from benchmarks import results
from benchmarks.cases import (
    EMBEDDING_PATHS,
    FUSED,
    FUSED_XLA,
    JOINT,
    KERAS,
    LAZY,
    PATHS,
    REFERENCE,
    TWO_RUN_PATHS,
    XLA,
)
from benchmarks.results import Comparison

COMPARED = (REFERENCE, KERAS, XLA, FUSED_XLA)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("json", type=pathlib.Path)
    print(text(results.load(parser.parse_args().json)))


def text(output: dict[str, Any]) -> str:
    """The tables of a run."""
    parts = [results.conditions(output)]
    comparisons = results.comparisons(output)
    if comparisons:
        parts += ["", "The second part's step given the seed, forward included; float32, Adam."]
        parts += ["Milliseconds: median (quartiles). Ratio of medians (to reach).", ""]
        parts += aligned(
            [
                ["case", *PATHS, *(f"{path}/fused" for path in COMPARED)],
                *[_step_row(comparison) for comparison in comparisons],
            ]
        )
    embeddings = results.embeddings(output)
    if embeddings:
        parts += ["", "An embedding table, Flatten and a dense layer given the seed, float32."]
        parts += ["Milliseconds: median (quartiles). Ratio of medians (to reach).", ""]
        parts += aligned(
            [
                ["case", *EMBEDDING_PATHS, "keras/fused", "keras/lazy"],
                *[_embedding_step_row(comparison) for comparison in embeddings],
            ]
        )
    models = results.models(output)
    if models:
        parts += ["", "Models of several kinds given the seed, forward included; float32, Adam."]
        parts += ["Milliseconds: median (quartiles). Ratio of medians: below 1, fusing loses.", ""]
        parts += aligned(
            [
                ["model", *PATHS, *(f"{path}/fused" for path in COMPARED)],
                *[_step_row(comparison) for comparison in models],
            ]
        )
    two_runs = results.two_runs(output)
    if two_runs:
        parts += ["", "Both parts of a model, in one run (joint, both) or in two; float32, Adam."]
        parts += ["Milliseconds: median (quartiles). Ratio of medians (to reach).", ""]
        compared = [path for path in TWO_RUN_PATHS if path != JOINT]
        parts += aligned(
            [
                ["case", *TWO_RUN_PATHS, *(f"joint/{path}" for path in compared)],
                *[_two_run_row(comparison, compared) for comparison in two_runs],
            ]
        )
    kernels = results.kernels(output)
    if kernels:
        parts += ["", "The kernels alone: backward pass and Adam, no forward, no TensorFlow.", ""]
        parts += aligned(
            [["case", "ms", "GFLOP/s", "optimizer GB/s"], *[_kernel_row(item) for item in kernels]]
        )
    tables = results.tables(output)
    if tables:
        parts += ["", "The update of an embedding table alone, float32, no TensorFlow.", ""]
        parts += aligned(
            [["case", "ms", "M ids/s", "GB/s"], *[_embedding_row(item) for item in tables]]
        )
    return "\n".join(parts)


def _step_row(case: Comparison) -> list[str]:
    return [
        case.name,
        *(_times(case, path) for path in PATHS),
        *(_ratio(case, path) for path in COMPARED),
    ]


def _embedding_step_row(case: Comparison) -> list[str]:
    return [
        case.name,
        *(_times(case, path) for path in EMBEDDING_PATHS),
        *(_ratio(case, path) for path in (FUSED, LAZY)),
    ]


def _two_run_row(case: Comparison, compared: Sequence[str]) -> list[str]:
    return [
        case.name,
        *(_times(case, path) for path in TWO_RUN_PATHS),
        *(_ratio(case, path) for path in compared),
    ]


def _times(case: Comparison, path: str) -> str:
    if path not in case.times:
        return "-"
    time = case.times[path]
    return f"{time.median:.2f} ({time.low:.2f} to {time.high:.2f})"


def _ratio(case: Comparison, path: str) -> str:
    if path not in case.ratio:
        return "-"
    target = case.target.get(path)
    if target is None:
        return f"{case.ratio[path]:.2f}"
    verdict = "" if case.ratio[path] >= target else ", missed"
    return f"{case.ratio[path]:.2f} ({target:.1f}{verdict})"


def _kernel_row(item: dict[str, Any]) -> list[str]:
    info = item["extra_info"]
    return [
        item["group"].removeprefix(results.KERNELS),
        f"{1e3 * item['stats']['median']:.2f}",
        f"{info['gflop_per_s']:.1f}",
        f"{info['optimizer_gb_per_s']:.1f}",
    ]


def _embedding_row(item: dict[str, Any]) -> list[str]:
    info = item["extra_info"]
    return [
        item["group"].removeprefix(results.TABLES),
        f"{1e3 * item['stats']['median']:.2f}",
        f"{info['ids_per_s'] / 1e6:.1f}",
        f"{info['gb_per_s']:.1f}",
    ]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, the first column to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


if __name__ == "__main__":
    main()
