"""The JSON of a run: what is added to pytest-benchmark's, and how it is read.

Without TensorFlow and without splitop: tables and plots come from the file alone.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from benchmarks.cases import FUSED, JOINT, KERAS

SECOND_PART = "second part: "
KERNELS = "kernels: "
TABLES = "embedding tables: "
EMBEDDINGS = "embeddings: "
MODELS = "models: "
TWO_RUNS = "two runs: "


@dataclasses.dataclass(frozen=True)
class Times:
    """Milliseconds of one path's step: median and quartiles."""

    median: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One case of the second part's step.

    Attributes:
        name: The case.
        times: For each path.
        ratio: For each path that is compared, a quotient of medians.
        target: For each of these, the ratio to reach.
    """

    name: str
    times: dict[str, Times]
    ratio: dict[str, float]
    target: dict[str, float]


def load(path: pathlib.Path) -> dict[str, Any]:
    """The JSON of a run."""
    return json.loads(path.read_text())


def complete(output: dict[str, Any]) -> None:
    """Adds the ratios to pytest-benchmark's JSON and removes what is no result."""
    commit = output["commit_info"]
    output["commit_info"] = {key: commit.get(key) for key in ("id", "time", "dirty")}
    for benchmark in output["benchmarks"]:
        # Raw times and options make the file ten times as long.
        benchmark["stats"].pop("data", None)
        for key in ("options", "params", "param", "fullname"):
            benchmark.pop(key, None)
    compared = [*comparisons(output), *embeddings(output), *models(output), *two_runs(output)]
    output["ratios"] = {case.name: case.ratio for case in compared}


def comparisons(output: dict[str, Any]) -> list[Comparison]:
    """The cases of the second part's step, in the order they were run."""
    return _compared_with_fused(output, SECOND_PART)


def models(output: dict[str, Any]) -> list[Comparison]:
    """The models of several kinds, in the order they were run."""
    return _compared_with_fused(output, MODELS)


def _compared_with_fused(output: dict[str, Any], kind: str) -> list[Comparison]:
    return [
        _comparison(name, paths, {path: (path, FUSED) for path in paths if path != FUSED})
        for name, paths in _groups(output, kind).items()
    ]


def embeddings(output: dict[str, Any]) -> list[Comparison]:
    """The cases of an embedding table and a dense layer; `ratio`: Keras' median by the path's."""
    return [
        _comparison(name, paths, {path: (KERAS, path) for path in paths if path != KERAS})
        for name, paths in _groups(output, EMBEDDINGS).items()
    ]


def two_runs(output: dict[str, Any]) -> list[Comparison]:
    """The models in two parts; `ratio`: the median of their joint training by the path's."""
    return [
        _comparison(name, paths, {path: (JOINT, path) for path in paths if path != JOINT})
        for name, paths in _groups(output, TWO_RUNS).items()
    ]


def _groups(output: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """The benchmarks of a kind: for each case one a path."""
    groups: dict[str, dict[str, Any]] = {}
    for benchmark in output["benchmarks"]:
        if benchmark["group"].startswith(kind):
            name = benchmark["group"].removeprefix(kind)
            groups.setdefault(name, {})[benchmark["extra_info"]["path"]] = benchmark
    return groups


def kernels(output: dict[str, Any]) -> list[dict[str, Any]]:
    """The benchmarks of the kernels alone."""
    return [item for item in output["benchmarks"] if item["group"].startswith(KERNELS)]


def tables(output: dict[str, Any]) -> list[dict[str, Any]]:
    """The benchmarks of the embedding tables' update."""
    return [item for item in output["benchmarks"] if item["group"].startswith(TABLES)]


def conditions(output: dict[str, Any]) -> str:
    """One line on where and with what the times were measured."""
    machine, commit = output["machine_info"], output["commit_info"]
    devices = ", ".join([f"{machine['cores']} cores of {machine['cpu']}", *machine["gpus"]])
    dirty = " with changes" if commit["dirty"] else ""
    return (
        f"{devices} ({machine['isa']}), TensorFlow {machine['tensorflow']}, "
        f"Keras {machine['keras']}, commit {commit['id'][:10]}{dirty}"
    )


def _comparison(
    name: str, paths: dict[str, Any], quotients: dict[str, tuple[str, str]]
) -> Comparison:
    times = {path: _times(benchmark["stats"]) for path, benchmark in paths.items()}
    return Comparison(
        name=name,
        times=times,
        ratio={path: times[a].median / times[b].median for path, (a, b) in quotients.items()},
        target=next(iter(paths.values()))["extra_info"]["target"],
    )


def _times(stats: dict[str, float]) -> Times:
    return Times(*(1e3 * stats[key] for key in ("median", "q1", "q3")))
