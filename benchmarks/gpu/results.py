"""The JSON of a run, written after every case, and how it is read.

Without torch, TensorFlow and splitop: tables and plots come from the file alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
from typing import Any

from benchmarks.gpu.cases import PARTS, Case
from benchmarks.gpu.costs import Floor, Limits
from benchmarks.gpu.timing import Times


@dataclasses.dataclass(frozen=True)
class Result:
    """One candidate in one case.

    Attributes:
        times: None if it could not be measured.
        peak_bytes: Beyond weights, state and inputs; None: unknown.
        note: How it was timed, or why it was not.
    """

    times: Times | None
    peak_bytes: int | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Record:
    """What was measured of one case.

    Attributes:
        case: The case.
        results: By candidate; the first is splitop's own choice.
        floor: The shortest time at the measured rates.
        sets: Input sets that were rotated.
        cold: Whether weights were out of the cache when their step began.
        picked: The strategy that the dispatch took; None for a chain: each layer has its own.
        expected: Seconds that the dispatch expected, by strategy.
    """

    case: Case
    results: dict[str, Result]
    floor: Floor
    sets: int = 1
    cold: bool = False
    picked: str | None = None
    expected: dict[str, float] = dataclasses.field(default_factory=dict)

    def seconds(self, name: str) -> float | None:
        """The candidate's median."""
        result = self.results.get(name)
        return result.times.median if result is not None and result.times is not None else None

    def surprise(self) -> float | None:
        """How many times as long as expected the strategy took that the dispatch chose."""
        seconds = None if self.picked is None else self.seconds(self.picked)
        expected = self.expected.get(self.picked or "")
        return None if seconds is None or expected is None else seconds / expected

    def share_of_floor(self, name: str) -> float | None:
        seconds = self.seconds(name)
        return None if seconds is None else self.floor.seconds / seconds

    def ratio(self, name: str, to: str) -> float | None:
        """How many times as long `name` takes."""
        seconds, base = self.seconds(name), self.seconds(to)
        return None if seconds is None or base is None else seconds / base

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Record:
        results = {
            name: Result(**{**result, "times": result["times"] and Times(**result["times"])})
            for name, result in fields["results"].items()
        }
        made = {"case": Case(**fields["case"]), "floor": Floor(**fields["floor"])}
        return cls(**{**fields, **made, "results": results})


@dataclasses.dataclass
class Part:
    """What was measured by one part of the benchmark.

    Attributes:
        selection: Which cases were asked for.
        machine: Device and versions.
        limits: What the device can do.
        absent: Candidates that could not be had at all, and why.
        records: In the order of measuring.
        failures: Cases that could not be measured, and why.
        left_out: Cases that have not been begun.
        device_lost: Whether the device stopped working, which ends the part.
    """

    selection: str
    machine: dict[str, Any]
    limits: Limits
    absent: dict[str, str] = dataclasses.field(default_factory=dict)
    records: list[Record] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)
    device_lost: bool = False

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Part:
        made = {
            "limits": Limits(**fields["limits"]),
            "records": [Record.from_json(record) for record in fields["records"]],
        }
        return cls(**{**fields, **made})


@dataclasses.dataclass
class Document:
    """The file: a device and the parts that were measured on it."""

    device: str
    parts: dict[str, Part] = dataclasses.field(default_factory=dict)

    @classmethod
    def load(cls, path: pathlib.Path) -> Document:
        fields = json.loads(path.read_text())
        parts = {name: Part.from_json(part) for name, part in fields["parts"].items()}
        return cls(fields["device"], {name: parts[name] for name in PARTS if name in parts})

    @classmethod
    def load_for(cls, path: pathlib.Path, device: str) -> Document:
        """The file if it is of this device and format, else an empty one."""
        try:
            found = cls.load(path)
        except (OSError, ValueError, KeyError, TypeError):
            return cls(device)
        return found if found.device == device else cls(device)

    def save(self, path: pathlib.Path) -> None:
        """Replaces the file in one go: a run that is cut off leaves a whole one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        os.replace(unfinished, path)


def file_name(device: str) -> str:
    """`nvidia-h100-80gb-hbm3.json`"""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") + ".json"
