"""The JSON of a run, and what is read from it. Needs none of the frameworks."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

SPLITOP = "splitop"
SPLITOP_JIT = "splitop, jit"
REFERENCE = "TensorFlow"
KERAS = "Keras"
KERAS_JIT = "Keras, jit"
TORCH = "torch"
TORCH_IN_BACKWARD = "torch, in backward"
JAX = "JAX"
PEERS = (SPLITOP, SPLITOP_JIT, REFERENCE, KERAS, KERAS_JIT, TORCH, TORCH_IN_BACKWARD, JAX)


@dataclasses.dataclass(frozen=True)
class Row:
    """One part and rule.

    Attributes:
        part: Its name.
        rule: The update rule.
        median: Milliseconds a step of each peer.
        quartiles: The first and the third of these.
        absent: Why the other peers have no times.
        limit: The least milliseconds by the machine's rates.
    """

    part: str
    rule: str
    median: dict[str, float]
    quartiles: dict[str, tuple[float, float]]
    absent: dict[str, str]
    limit: float

    @property
    def name(self) -> str:
        return f"{self.part}, {self.rule}"

    @property
    def fastest_other(self) -> str:
        """The fastest peer without splitop."""
        others = [peer for peer in self.median if peer not in (SPLITOP, SPLITOP_JIT)]
        return min(others, key=lambda peer: self.median[peer])

    def ratio(self, peer: str) -> float:
        """How many times as long as splitop's step this peer's takes."""
        return self.median[peer] / self.median[SPLITOP]


def save(path: pathlib.Path, conditions: dict[str, Any], rows: list[Row]) -> None:
    """Writes a run."""
    output = {"conditions": conditions, "rows": [dataclasses.asdict(row) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(output, indent=1) + "\n")


def load(path: pathlib.Path) -> tuple[dict[str, Any], list[Row]]:
    """What `save` wrote."""
    output = json.loads(path.read_text())
    return output["conditions"], [Row(**row) for row in output["rows"]]


def line(conditions: dict[str, Any]) -> str:
    """Where and with what the times were measured."""
    versions = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    return (
        f"{conditions['cores']} cores of {conditions['cpu']} ({conditions['isa']}), "
        f"{conditions['gflop_per_s']:.0f} GFLOP/s, {conditions['gb_per_s']:.1f} GB/s; {versions}"
    )
