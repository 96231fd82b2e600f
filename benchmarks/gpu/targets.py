"""What is to be reached, and where it is not."""

from __future__ import annotations

import dataclasses

from benchmarks.gpu.cases import WEIGHTS
from benchmarks.gpu.results import Record

SPLITOP = "splitop"

# Of the measured copy bandwidth: weight gradient and update.
SHARE = 0.85
LARGEST_BATCH = 256
SMALLEST_WIDTH = 2048
# How many times as long the others take for the whole step.
RATIOS = {"keras jit": 1.2, "keras": 3.0, "reference": 1.0}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A figure and what it is to reach."""

    what: str
    value: float
    target: float

    @property
    def reached(self) -> bool:
        return self.value >= self.target


def verdicts(record: Record) -> list[Verdict]:
    """What a case has to reach; empty where nothing is asked."""
    case = record.case
    if case.kind == WEIGHTS:
        share = record.share_of_floor(SPLITOP)
        asked = case.batch <= LARGEST_BATCH and case.width >= SMALLEST_WIDTH and record.cold
        if not asked or share is None or record.floor.binding != "copy":
            return []
        return [Verdict("share of the copy rate", share, SHARE)]
    found = []
    for name, target in RATIOS.items():
        ratio = record.ratio(name, SPLITOP)
        if ratio is not None:
            found.append(Verdict(f"{name}/{SPLITOP}", ratio, target))
    return found
