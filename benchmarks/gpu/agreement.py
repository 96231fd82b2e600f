"""Whether two candidates do the same step; how accurate they are is for the tests to say."""

from __future__ import annotations

from typing import Protocol

from benchmarks.gpu.cases import Case
from benchmarks.gpu.device import Array

FEW = 4
UNIT_ROUNDOFF = {"float32": 2.0**-24, "tf32": 2.0**-11, "bfloat16": 2.0**-9}


class Ruler(Protocol):
    """The part of a Device that this takes."""

    def distance(self, a: Array, b: Array) -> float: ...


class Disagreement(AssertionError):
    """A candidate does another step than the one it is compared with."""


def allowed(case: Case) -> float:
    """The part of a step's length by which two right ones may differ.

    About a share u of a layer's relus, or a single one, is so near to zero that a rounding of
    size u decides on them: sqrt(u) of the gradient's norm. The layers' errors add up as
    independent ones do.
    """
    share = max(UNIT_ROUNDOFF[case.precision], 1 / (case.batch * case.width))
    return float(FEW * (case.layers * share) ** 0.5)


def check(
    device: Ruler,
    case: Case,
    before: list[Array],
    expected: list[Array],
    received: list[Array],
) -> None:
    """Compares all variables after a step from the same state.

    Raises:
        Disagreement: They differ by more than rounding, or one did not move.
    """
    for index, arrays in enumerate(zip(before, expected, received, strict=True)):
        start, wanted, got = arrays
        moved = device.distance(wanted, start)
        difference = device.distance(got, wanted)
        if not (moved > 0 and difference <= allowed(case) * moved):
            raise Disagreement(f"variable {index} is off by {difference:.3g} of {moved:.3g}")
